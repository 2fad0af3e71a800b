#include "data/gpt2_vocabulary.h"

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "catch.h"
#include "data/gpt2_byte_characters.h"
#include "tests/data/temporary_directory.h"
#include "tests/data/tokenizer_golden.h"

namespace normlab {
namespace {

using test::contains;
using test::input_error_of;

// A vocabulary of the 256 bytes, "ab" and "abc", whose files a test changes before they are read.
struct Files {
  std::string vocabulary;
  std::string merges = "#version: 0.2\na b\nab c\n";

  Files() {
    for (int byte = 0; byte < 256; ++byte) {
      vocabulary += vocabulary.empty() ? "{" : ", ";
      const std::string character = character_of_byte(static_cast<unsigned char>(byte));
      const bool escaped = character == "\"" || character == "\\";
      vocabulary += (escaped ? "\"\\" : "\"") + character + "\": " + std::to_string(byte);
    }
    vocabulary += ",\n\"ab\": 256,\n\"abc\": 257}\n";
  }

  static void replace(std::string& content, const std::string& from, const std::string& to) {
    const size_t at = content.find(from);
    REQUIRE(at != std::string::npos);
    content.replace(at, from.size(), to);
  }

  Gpt2Vocabulary read() const {
    const test::TemporaryDirectory directory;
    test::write_bytes(directory.file("vocab.json"), vocabulary);
    test::write_bytes(directory.file("merges.txt"), merges);
    return read_gpt2_vocabulary(directory.file("vocab.json"), directory.file("merges.txt"));
  }

  std::string error() const {
    return input_error_of([&] { read(); });
  }
};

TEST_CASE("gpt2 vocabulary: tokens are bytes and merges are ids in their order") {
  Files files;
  const Gpt2Vocabulary vocabulary = files.read();
  REQUIRE(vocabulary.tokens.size() == 258);
  for (size_t byte = 0; byte < 256; ++byte) {
    CHECK(vocabulary.byte_tokens[byte] == byte);
    CHECK(vocabulary.tokens[byte] == std::string(1, static_cast<char>(byte)));
  }
  CHECK(vocabulary.tokens[257] == "abc");
  REQUIRE(vocabulary.merges.size() == 2);
  CHECK(vocabulary.merges[0].result == 256);
  CHECK(vocabulary.merges[1].left == 256);
  CHECK(vocabulary.merges[1].right == 'c');
  CHECK(vocabulary.merges[1].result == 257);
  CHECK(vocabulary.end_of_text == -1);
}

TEST_CASE("gpt2 vocabulary: bytes are written as GPT-2's bytes_to_unicode writes them") {
  CHECK(character_of_byte('!') == "!");
  CHECK(character_of_byte(0) == "\u0100");
  CHECK(character_of_byte(' ') == "\u0120");
  CHECK(character_of_byte('\n') == "\u010A");
  CHECK(character_of_byte(0x7F) == "\u0121");
  CHECK(character_of_byte(0xA0) == "\u0142");
  CHECK(character_of_byte(0xAD) == "\u0143");
  CHECK(character_of_byte(0xFF) == "\u00FF");
  CHECK(bytes_of_characters("\u0120a\u00e9\u0143") == " a\xE9\xAD");
  // An added token that is written in other characters stands for itself.
  for (const std::string added : {"<|a b|>", "\u4e2d", "\u0144", "\u00ad", "x\u0120 "}) {
    CHECK(bytes_of_characters(added) == added);
  }
}

TEST_CASE("gpt2 vocabulary: end of text is the token of that name") {
  Files files;
  files.replace(files.vocabulary, "\"abc\": 257", "\"abc\": 257, \"<|endoftext|>\": 258");
  CHECK(files.read().end_of_text == 258);
}

TEST_CASE("gpt2 vocabulary: its hash is of what decides and not of how it is written") {
  const uint64_t hash = hash_of(Files().read());
  Files other;
  other.replace(other.vocabulary, ",\n\"ab\": 256,\n\"abc\": 257", "");
  other.replace(other.vocabulary, "{", "{ \"abc\":257,\r\n\t\"\\u0061b\":256,");
  other.merges = "a b\r\nab c";
  CHECK(hash_of(other.read()) == hash);

  std::vector<uint64_t> hashes = {hash};
  const auto differs = [&](const Files& files) {
    hashes.push_back(hash_of(files.read()));
    for (size_t i = 0; i + 1 < hashes.size(); ++i) CHECK(hashes[i] != hashes.back());
  };
  const auto changed = [](const std::string& from, const std::string& to) {
    Files files;
    files.replace(files.vocabulary, from, to);
    return files;
  };
  differs(changed("\"abc\": 257", "\"abc\": 257, \"<|endoftext|>\": 258"));
  differs(changed("\"abc\": 257", "\"abc\": 257, \"x\u0100\": 258"));
  differs(changed("256,\n\"abc\": 257", "257,\n\"abc\": 256"));
  Files merges;
  merges.merges = "ab c\na b\n";
  differs(merges);
}

TEST_CASE("gpt2 vocabulary: a vocab.json that is wrong is named with its line") {
  const std::vector<std::tuple<std::string, std::string, std::string>> cases = {
      {"\"abc\": 257}", "\"abc\": 257", "vocab.json:4: not JSON from byte "},
      {"\"ab\": 256", "\"ab\" 256", "vocab.json:2: not JSON from byte "},
      {"\"ab\": 256", "\"ab\xFF\": 256", "vocab.json:2: not JSON from byte "},
      {"}\n", "} x\n", "vocab.json:3: not JSON from byte "},
      {"257", "259", "vocab.json:3: token \"abc\" has the id 259 (258 tokens have the ids from 0 "},
      {"257", "256", "vocab.json:3: token \"abc\" has the id 256 (so has \"ab\")"},
      {"257", "65536", "vocab.json:3: token \"abc\" has 65536 for its id (a whole number"},
      {"257", "-1", "token \"abc\" has -1 for its id"},
      {"257", "257.5", "token \"abc\" has 257.5 for its id"},
      {"257", "1e400", "vocab.json:3: "},
      {"257", "99999999999999999999999", "vocab.json:3: token \"abc\" has "},
      {"257", "\"257\"", "token \"abc\" has \"257\" for its id"},
      {"257", "null", "token \"abc\" has null for its id"},
      {"257", "[257]", "token \"abc\" has an array for its id"},
      {"257", "{\"x\": 1}", "token \"abc\" has an object for its id"},
      {"\"abc\": 257", "\"ab\": 257", "vocab.json:3: token \"ab\" is there twice (line 2 has it"},
      {"\"\u0100\": 0", "\"zz\": 0", "byte 0 has no token (it would be \"\u0100\""},
  };
  for (const auto& [from, to, expected] : cases) {
    Files files;
    files.replace(files.vocabulary, from, to);
    const std::string message = files.error();
    INFO(to << " gives " << message);
    CHECK(contains(message, expected));
  }
  for (const std::string content : {"", "[1]", "7", "\"x\"", "null"}) {
    Files files;
    files.vocabulary = content;
    INFO(content << " gives " << files.error());
    CHECK(contains(files.error(), "vocab.json:1: "));
  }
}

TEST_CASE("gpt2 vocabulary: more tokens than 16 bits count are refused") {
  Files files;
  std::string more;
  for (int id = 258; id < 65536; ++id) {
    more += ", \"t" + std::to_string(id) + "\": " + std::to_string(id);
  }
  files.replace(files.vocabulary, "257", "257" + more);
  CHECK(files.read().tokens.size() == 65536);
  files.replace(files.vocabulary, ": 65535", ": 65535, \"one more\": 0");
  CHECK(contains(files.error(), "a vocabulary beyond 65536 tokens"));
}

TEST_CASE("gpt2 vocabulary: a merges.txt that is wrong is named with its line") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"#version: 0.2\na b\nab\n", "merges.txt:3: \"ab\" is no merge (two tokens with one blank"},
      {"a b\n\nab c\n", "merges.txt:2: \"\" is no merge"},
      {"a b c\n", "merges.txt:1: \"a b c\" is no merge"},
      {" ab\n", "merges.txt:1: \" ab\" is no merge"},
      {"ab \n", "merges.txt:1: \"ab \" is no merge"},
      {"a b\n#version: 0.2\n", "merges.txt:2: token \"#version:\" is not in vocab.json"},
      {"a b\nab d\n", "merges.txt:2: the merge's result \"abd\" is not in vocab.json"},
      {"zz d\n", "merges.txt:1: token \"zz\" is not in vocab.json"},
      {"a b\nab c\na b\n",
       "merges.txt:3: the merge \"a b\" is there twice (line 1 has it already)"},
      {std::string(2, '\0'), "merges.txt:1: \"??\" is no merge"},
      {std::string(500, 'x'), "merges.txt:1: \"" + std::string(40, 'x') + "…\" is no merge"},
  };
  for (const auto& [content, expected] : cases) {
    Files files;
    files.merges = content;
    const std::string message = files.error();
    INFO(message);
    CHECK(contains(message, expected));
  }
}

TEST_CASE("gpt2 vocabulary: merges need no first line, no last line end and may be none") {
  for (const std::string content : {"a b\nab c", "#version: 0.2\r\na b\r\nab c\r\n\r\n"}) {
    Files files;
    files.merges = content;
    CHECK(files.read().merges.size() == 2);
  }
  Files files;
  files.merges = "";
  CHECK(files.read().merges.empty());
}

TEST_CASE("gpt2 vocabulary: a missing file is named") {
  const test::TemporaryDirectory directory;
  const std::string vocabulary = test::fixture("small/vocab.json");
  const std::string absent = directory.file("absent");
  CHECK(contains(input_error_of([&] { read_gpt2_vocabulary(absent, absent); }),
                 absent + ": no such file"));
  CHECK(contains(input_error_of([&] { read_gpt2_vocabulary(vocabulary, absent); }),
                 absent + ": no such file"));
  CHECK(contains(input_error_of([&] { read_gpt2_vocabulary(directory.path.string(), absent); }),
                 directory.path.string() + ": no such file"));
}

}  // namespace
}  // namespace normlab
