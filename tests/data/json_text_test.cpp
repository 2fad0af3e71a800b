#include "data/json_text.h"

#include "catch.h"

namespace normlab {
namespace {

std::string nested(size_t levels) { return std::string(levels, '[') + std::string(levels, ']'); }

template <typename Json>
std::string error_of(const std::string& text) {
  try {
    parse_json_text<Json>(text);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("json text: what nests deeper than 64 levels is an input error and takes no stack") {
  CHECK(parse_json_text<nlohmann::json>(nested(64)).dump() == nested(64));
  const std::string message =
      "is not JSON that is meant (it nests deeper than 64 levels). Copy or make the file anew";
  CHECK(error_of<nlohmann::json>("{\"a\": " + nested(65) + "}") == message);
  CHECK(error_of<nlohmann::ordered_json>(nested(3'000'000)) == message);
}

TEST_CASE("json text: is what the library makes of it, and malformed text its exception") {
  const std::string text = R"({"b": [1, -2.5, null, true], "a": {"ä": "\u00e4"}})";
  CHECK(parse_json_text<nlohmann::ordered_json>(text) == nlohmann::ordered_json::parse(text));
  CHECK_THROWS_AS(parse_json_text<nlohmann::json>("{\"a\": "), nlohmann::json::parse_error);
}

}  // namespace normlab
