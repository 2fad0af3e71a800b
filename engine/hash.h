// Hashes as text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace normlab {

// 16 hexadecimal digits.
std::string hexadecimal(uint64_t value);
// XXH3 of a text.
uint64_t hash_text(std::string_view text);

}  // namespace normlab
