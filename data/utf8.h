// UTF-8 as it comes: whether it is well-formed, and what stands in where it is not.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace normlab {

// The bytes before the first that is not part of well-formed UTF-8 (Unicode, table 3-7: no
// surrogates, no overlong forms, nothing beyond U+10FFFF); text.size() where all is.
size_t well_formed_bytes(std::string_view text);

// The text with U+FFFD for every maximal part of an ill-formed sequence (Unicode, section 3.9), as
// Python's bytes.decode("utf-8", "replace") gives it.
std::string with_replacements(std::string_view text);

}  // namespace normlab
