#include "data/tokenizer.h"

#include <string>
#include <vector>

#include "catch.h"
#include "kernels/error.h"

namespace normlab {
namespace {

TEST_CASE("tokenizer: bytes gives every byte its own value and comes back") {
  const auto tokenizer = make_tokenizer("bytes");
  std::string text;
  for (int byte = 0; byte < 256; ++byte) text += static_cast<char>(byte);
  const std::vector<uint16_t> tokens = tokenizer->encode(text);
  REQUIRE(tokens.size() == 256);
  for (size_t i = 0; i < 256; ++i) CHECK(tokens[i] == i);
  CHECK(tokenizer->decode(tokens) == text);
  CHECK(tokenizer->encode("").empty());
}

TEST_CASE("tokenizer: bytes ends a text with 256, which reads as nothing") {
  const auto tokenizer = make_tokenizer("bytes");
  CHECK(tokenizer->vocabulary() == 257);
  CHECK(tokenizer->end_of_text() == 256);
  CHECK(tokenizer->decode({'a', 256, 'b', 256}) == "ab");
}

TEST_CASE("tokenizer: a name makes the tokenizer of that name") {
  CHECK(make_tokenizer("bytes")->name() == "bytes");
}

TEST_CASE("tokenizer: an unknown name and a foreign token are input errors that name it") {
  const auto kind_and_text = [](auto call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::input);
      return error.what();
    }
    return "no error";
  };
  for (const std::string name : {"Bytes", "", "gpt5"}) {
    const std::string message = kind_and_text([&] { make_tokenizer(name); });
    CHECK(message.find('"' + name + '"') != std::string::npos);
  }
  const std::string message = kind_and_text([] { make_tokenizer("bytes")->decode({1, 257}); });
  CHECK(message.find("token 257") != std::string::npos);
}

}  // namespace
}  // namespace normlab
