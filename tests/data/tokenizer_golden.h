// What tests/data/make_tokenizer_fixture.py wrote: texts and the ids that other programs give them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer.h"

namespace normlab::test {

// A file of tests/data/tokenizer/.
std::string fixture(const std::string& name);

struct Encoded {
  std::string text;  // any bytes
  std::vector<uint16_t> ids;
};
std::vector<Encoded> read_golden(const std::string& name);

// Checks that every text of a golden file has its ids.
void check_golden(const Tokenizer& tokenizer, const std::string& name);

// A code point as UTF-8.
std::string utf8(uint32_t code_point);

}  // namespace normlab::test
