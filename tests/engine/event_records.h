// Event files read back, by nothing that wrote them.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "engine/event_file.h"

namespace normlab::test {

// Bytes written as "3a 02 08".
inline std::string bytes_of(const std::string& hexadecimal) {
  std::string out;
  for (size_t place = 0; place < hexadecimal.size(); place += 3) {
    out += static_cast<char>(std::stoi(hexadecimal.substr(place, 2), nullptr, 16));
  }
  return out;
}

// The messages of a file's records; a record that is cut short or whose length or message differs
// from its checksum is an exception.
inline std::vector<std::string> messages_of(const std::string& file) {
  std::vector<std::string> messages;
  const auto check_crc = [&](size_t begin, size_t length) {
    uint32_t stored = 0;
    std::memcpy(&stored, file.substr(begin + length).data(), 4);
    stored -= 0xa282ead8u;
    const uint32_t crc = stored << 15 | stored >> 17;
    if (crc != crc32c(file.substr(begin, length))) throw std::runtime_error("a wrong checksum");
  };
  for (size_t place = 0; place < file.size();) {
    if (file.size() - place < 12) throw std::runtime_error("a record that is cut short");
    uint64_t length = 0;
    std::memcpy(&length, file.data() + place, 8);
    check_crc(place, 8);
    place += 12;
    if (file.size() - place < length + 4) throw std::runtime_error("a record that is cut short");
    check_crc(place, length);
    messages.push_back(file.substr(place, length));
    place += length + 4;
  }
  return messages;
}

}  // namespace normlab::test
