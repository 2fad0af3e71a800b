// Files with random mistakes, a function of seed and number alone.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace normlab::fuzz {

class Mutator {
 public:
  // `seeds`: files to begin with, at least one; `tokens`: pieces of text that mean something to a
  // reader.
  Mutator(const std::vector<std::string>& seeds, const std::vector<std::string>& tokens);

  // The first are the seeds as they are. The others are one of them with one to eight mistakes:
  // flipped bits, cut ends, blocks that are taken out, doubled, moved or come from another file,
  // extreme integers and tokens. At most twice the longest seed plus a kibibyte.
  std::string file(uint64_t seed, uint64_t number);
  uint64_t seeds() const { return seeds_.size(); }

 private:
  using Change = void (Mutator::*)(std::string&);

  void flip_bit(std::string& file);
  void set_byte(std::string& file);
  void truncate(std::string& file);
  void remove_block(std::string& file);
  void repeat_block(std::string& file);
  void insert_noise(std::string& file);
  void splice(std::string& file);
  void overwrite_integer(std::string& file);
  void replace_digits(std::string& file);
  void insert_token(std::string& file);
  void replace_by_token(std::string& file);

  size_t below(size_t bound);  // 0 where the bound is 0
  size_t place_in(const std::string& file) { return below(file.size() + 1); }
  size_t length_from(const std::string& file, size_t place);

  std::vector<std::string> seeds_;
  std::vector<std::string> tokens_;
  size_t longest_ = 0;  // seed
  std::mt19937_64 random_;
};

}  // namespace normlab::fuzz
