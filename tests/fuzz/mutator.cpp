#include "tests/fuzz/mutator.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>

namespace normlab::fuzz {
namespace {

constexpr std::array<uint64_t, 16> kExtremes = {0,           1,
                                                2,           0x7f,
                                                0x80,        0xff,
                                                0x7fff,      0xffff,
                                                0x10000,     0x7fffffff,
                                                0x80000000,  0xffffffff,
                                                0x100000000, std::numeric_limits<int64_t>::max(),
                                                1ull << 63,  ~0ull};

const std::array<std::string, 14> kNumbers = {"0",
                                              "-1",
                                              "1",
                                              "65536",
                                              "2147483648",
                                              "4294967296",
                                              "9223372036854775807",
                                              "-9223372036854775808",
                                              "18446744073709551615",
                                              "99999999999999999999999",
                                              "1e308",
                                              "1e-400",
                                              "0.5",
                                              "1000000007"};

// Most blocks are small: a mistake that leaves the rest of the file to be read reaches further.
constexpr size_t kLongestBlock = 64;

}  // namespace

Mutator::Mutator(const std::vector<std::string>& seeds, const std::vector<std::string>& tokens)
    : seeds_(seeds), tokens_(tokens) {
  for (const std::string& file : seeds_) longest_ = std::max(longest_, file.size());
}

size_t Mutator::below(size_t bound) { return bound == 0 ? 0 : random_() % bound; }

size_t Mutator::length_from(const std::string& file, size_t place) {
  const size_t rest = file.size() - place;
  return below(8) == 0 ? below(rest + 1) : below(std::min(rest, kLongestBlock) + 1);
}

void Mutator::flip_bit(std::string& file) {
  if (file.empty()) return;
  char& byte = file[below(file.size())];
  byte = static_cast<char>(byte ^ (1 << below(8)));
}

void Mutator::set_byte(std::string& file) {
  if (!file.empty()) file[below(file.size())] = static_cast<char>(below(256));
}

void Mutator::truncate(std::string& file) { file.resize(place_in(file)); }

void Mutator::remove_block(std::string& file) {
  const size_t place = place_in(file);
  file.erase(place, length_from(file, place));
}

void Mutator::repeat_block(std::string& file) {
  const size_t place = place_in(file);
  const std::string block = file.substr(place, length_from(file, place));
  file.insert(below(2) == 0 ? place : place_in(file), block);
}

void Mutator::insert_noise(std::string& file) {
  std::string noise(below(16) + 1, '\0');
  for (char& byte : noise) byte = static_cast<char>(below(256));
  file.insert(place_in(file), noise);
}

void Mutator::splice(std::string& file) {
  const std::string& other = seeds_[below(seeds_.size())];
  const size_t place = place_in(other);
  if (below(4) == 0) {
    file = file.substr(0, place_in(file)) + other.substr(place);
  } else {
    file.insert(place_in(file), other, place, length_from(other, place));
  }
}

void Mutator::overwrite_integer(std::string& file) {
  const size_t bytes = size_t{1} << below(4);
  if (file.size() < bytes) return;
  // Headers stand at the beginning.
  const size_t places = file.size() - bytes + 1;
  const size_t place = below(2) == 0 ? below(std::min<size_t>(places, 32)) : below(places);
  const uint64_t value = kExtremes[below(kExtremes.size())] + (below(4) == 0 ? below(9) - 4 : 0);
  for (size_t byte = 0; byte < bytes; ++byte) {
    file[place + byte] = static_cast<char>(value >> (8 * byte));
  }
}

void Mutator::replace_digits(std::string& file) {
  const auto digit = [](char byte) { return byte >= '0' && byte <= '9'; };
  const auto begin =
      std::find_if(file.begin() + static_cast<std::ptrdiff_t>(place_in(file)), file.end(), digit);
  const auto end = std::find_if_not(begin, file.end(), digit);
  file.replace(begin, end, kNumbers[below(kNumbers.size())]);
}

void Mutator::insert_token(std::string& file) {
  if (!tokens_.empty()) file.insert(place_in(file), tokens_[below(tokens_.size())]);
}

void Mutator::replace_by_token(std::string& file) {
  if (tokens_.empty()) return;
  // A token that stands there by another.
  const std::string& old = tokens_[below(tokens_.size())];
  const size_t place = file.find(old, place_in(file));
  if (place != std::string::npos) file.replace(place, old.size(), tokens_[below(tokens_.size())]);
}

std::string Mutator::file(uint64_t seed, uint64_t number) {
  if (number < seeds_.size()) return seeds_[number];
  static constexpr std::array<Change, 11> changes = {
      &Mutator::flip_bit,     &Mutator::set_byte,          &Mutator::truncate,
      &Mutator::remove_block, &Mutator::repeat_block,      &Mutator::insert_noise,
      &Mutator::splice,       &Mutator::overwrite_integer, &Mutator::replace_digits,
      &Mutator::insert_token, &Mutator::replace_by_token};
  std::seed_seq sequence = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                            static_cast<uint32_t>(number), static_cast<uint32_t>(number >> 32)};
  random_.seed(sequence);
  std::string file = seeds_[below(seeds_.size())];
  // Few mistakes mostly: each is seen by itself.
  const size_t count = below(2) == 0 ? 1 : 2 + below(7);
  for (size_t change = 0; change < count; ++change) (this->*changes[below(changes.size())])(file);
  file.resize(std::min(file.size(), 2 * longest_ + 1024));
  return file;
}

}  // namespace normlab::fuzz
