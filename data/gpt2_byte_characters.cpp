#include "data/gpt2_byte_characters.h"

#include <array>
#include <cstdint>

#include "data/utf8.h"

namespace normlab {
namespace {

// Printable characters of Latin-1 stand for themselves, the others in turn for U+0100 on.
constexpr bool is_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr int kCodePoints = 0x100 + 68;  // 68 bytes are not themselves

struct Alphabet {
  std::array<uint16_t, 256> code_points = {};
  std::array<int16_t, kCodePoints> bytes = {};  // −1: the code point stands for none
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  for (int16_t& byte : alphabet.bytes) byte = -1;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const int code_point = is_itself(byte) ? byte : next++;
    alphabet.code_points[static_cast<size_t>(byte)] = static_cast<uint16_t>(code_point);
    alphabet.bytes[static_cast<size_t>(code_point)] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

std::string character_of_byte(unsigned char byte) {
  const uint16_t code_point = kAlphabet.code_points[byte];
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  return {static_cast<char>(0xC0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3F))};
}

std::string bytes_of_characters(std::string_view token) {
  std::string bytes;
  for (size_t i = 0; i < token.size(); ++i) {
    auto code_point = static_cast<unsigned char>(token[i]) + 0;
    // Of the alphabet's characters none takes more than two bytes.
    if (code_point >= 0xC0 && code_point < 0xE0 && i + 1 < token.size()) {
      code_point = (code_point & 0x1F) << 6 | (static_cast<unsigned char>(token[++i]) & 0x3F);
    } else if (code_point >= 0x80) {
      return std::string(token);
    }
    const int byte =
        code_point < kCodePoints ? kAlphabet.bytes[static_cast<size_t>(code_point)] : -1;
    if (byte < 0) return std::string(token);
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

std::string quoted_token(std::string_view token) {
  constexpr size_t kLongest = 40;
  std::string shown;
  for (const char c : with_replacements(token.substr(0, kLongest))) {
    const bool acts = (c >= 0 && c < ' ') || c == 0x7F;
    shown += acts ? '?' : c;
  }
  return '"' + shown + (token.size() > kLongest ? "…\"" : "\"");
}

}  // namespace normlab
