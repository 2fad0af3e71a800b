// vocab.json, entry by entry.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace normlab {

struct Gpt2Entry {
  std::string token;  // as the file has it
  uint32_t id = 0;    // at most 65535
  int64_t line = 0;
};

// From the content of `file`, whose name errors carry. Throws an input Error for what is no JSON
// object of tokens and ids, has a token twice, or more than 65536 of them.
std::vector<Gpt2Entry> parse_gpt2_vocabulary(const std::string& content, const std::string& file);

}  // namespace normlab
