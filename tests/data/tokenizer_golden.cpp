#include "tests/data/tokenizer_golden.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "catch.h"

namespace normlab::test {
namespace {

std::string from_hexadecimal(const std::string& digits) {
  std::string bytes;
  for (size_t i = 0; i + 1 < digits.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

}  // namespace

std::string fixture(const std::string& name) {
  return std::string(SOURCE_DIRECTORY) + "/tests/data/tokenizer/" + name;
}

std::vector<Encoded> read_golden(const std::string& name) {
  std::ifstream stream(fixture(name));
  std::vector<Encoded> all;
  for (const auto& row : nlohmann::json::parse(stream)) {
    all.push_back({from_hexadecimal(row.at(0)), row.at(1)});
  }
  return all;
}

void check_golden(const Tokenizer& tokenizer, const std::string& name) {
  const std::vector<Encoded> all = read_golden(name);
  CHECK(all.size() > 150);
  for (const Encoded& golden : all) {
    INFO(name << ": \"" << golden.text << "\"");
    CHECK(tokenizer.encode(golden.text) == golden.ids);
  }
}

std::string utf8(uint32_t code_point) {
  const auto tail = [&](int shift) {
    return static_cast<char>(0x80 | (code_point >> shift & 0x3F));
  };
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  if (code_point < 0x800) return {static_cast<char>(0xC0 | code_point >> 6), tail(0)};
  if (code_point < 0x10000) {
    return {static_cast<char>(0xE0 | code_point >> 12), tail(6), tail(0)};
  }
  return {static_cast<char>(0xF0 | code_point >> 18), tail(12), tail(6), tail(0)};
}

}  // namespace normlab::test
