#include "data/utf8.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "catch.h"
#include "tests/data/tokenizer_golden.h"

namespace normlab {
namespace {

using namespace std::string_literals;

TEST_CASE("utf8: every code point is well-formed and stays as it is") {
  std::string all;
  for (uint32_t code_point = 0; code_point < 0x110000; ++code_point) {
    if (code_point >= 0xD800 && code_point < 0xE000) continue;
    const std::string one = test::utf8(code_point);
    if (well_formed_bytes(one) != one.size()) FAIL_CHECK("U+" << std::hex << code_point);
    all += one;
  }
  CHECK(well_formed_bytes(all) == all.size());
  CHECK(with_replacements(all) == all);
}

// The table of section 3.9 of the Unicode standard (3-8 to 3-11), and Python's answers.
TEST_CASE("utf8: each maximal part of an ill-formed sequence becomes one U+FFFD") {
  const std::string r = "\xEF\xBF\xBD";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", r + r + r + r + r + r + r + r + "A"},
      {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", r + r + r + r + r + r + r + r + "A"},
      {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", r + r + r + r + r + "A" + r + r + "B"},
      {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", r + r + r + r + "A"},
      {"\xF0\x9F\x98", r},
      {"\xC3", r},
      {"a\xC3(", "a" + r + "("},
      {"\xF5\x80", r + r},
      {"\xFE\xFF", r + r},
      {"\x80\0\x80"s, r + "\0"s + r},
  };
  for (const auto& [text, expected] : cases) {
    INFO(text);
    CHECK(with_replacements(text) == expected);
  }
}

TEST_CASE("utf8: names the first byte that is ill-formed wherever it stands") {
  for (size_t at = 0; at < 20; ++at) {
    std::string text(20, 'a');
    text[at] = '\xFF';
    CHECK(well_formed_bytes(text) == at);
    text = std::string(at, 'a') + "\xE4\xB8\xAD";
    CHECK(well_formed_bytes(text) == text.size());
    CHECK(well_formed_bytes(std::string_view(text).substr(0, at + 2)) == at);
  }
}

}  // namespace
}  // namespace normlab
