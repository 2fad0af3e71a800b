// The characters that stand for bytes in GPT-2's files, where neither blanks nor control characters
// may be: bytes_to_unicode of its encoder.py.
#pragma once

#include <string>
#include <string_view>

namespace normlab {

// The character, in UTF-8, for a byte.
std::string character_of_byte(unsigned char byte);

// The bytes of a token that is written in those characters. One that has another character in it
// (an added token with a blank, say) stands for its own UTF-8.
std::string bytes_of_characters(std::string_view token);

// A token as an error quotes it: shortened, and nothing in it that a terminal would act on.
std::string quoted_token(std::string_view token);

}  // namespace normlab
