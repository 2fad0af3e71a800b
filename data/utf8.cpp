#include "data/utf8.h"

#include <cstdint>
#include <cstring>

namespace normlab {
namespace {

struct Sequence {
  size_t bytes = 1;
  bool well_formed = true;
};

// The sequence that begins at `begin`, or as much of it as could still have become one.
Sequence sequence_at(std::string_view text, size_t begin) {
  // Beyond the end stands a byte that continues nothing.
  const auto byte = [&](size_t i) {
    return begin + i < text.size() ? static_cast<unsigned char>(text[begin + i]) : 0;
  };
  const int first = byte(0);
  if (first < 0x80) return {1, true};
  if (first < 0xC2 || first > 0xF4) return {1, false};
  const size_t bytes = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  // The second byte's range keeps overlong forms, surrogates and what is beyond U+10FFFF out.
  int lowest = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  int highest = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < bytes; ++i) {
    if (byte(i) < lowest || byte(i) > highest) return {i, false};
    lowest = 0x80;
    highest = 0xBF;
  }
  return {bytes, true};
}

bool eight_are_ascii(std::string_view text, size_t begin) {
  uint64_t eight = 0;
  if (begin + sizeof(eight) > text.size()) return false;
  std::memcpy(&eight, text.data() + begin, sizeof(eight));
  return (eight & 0x8080808080808080) == 0;
}

}  // namespace

size_t well_formed_bytes(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    if (eight_are_ascii(text, at)) {
      at += 8;
      continue;
    }
    const Sequence sequence = sequence_at(text, at);
    if (!sequence.well_formed) break;
    at += sequence.bytes;
  }
  return at;
}

std::string with_replacements(std::string_view text) {
  std::string replaced;
  replaced.reserve(text.size());
  while (!text.empty()) {
    const size_t good = well_formed_bytes(text);
    replaced += text.substr(0, good);
    text.remove_prefix(good);
    if (text.empty()) break;
    replaced += "\xEF\xBF\xBD";
    text.remove_prefix(sequence_at(text, 0).bytes);
  }
  return replaced;
}

}  // namespace normlab
