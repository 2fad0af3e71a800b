#include "data/gpt2_words.h"

#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "catch.h"
#include "tests/data/tokenizer_golden.h"

namespace normlab {
namespace {

using Strings = std::vector<std::string>;

Strings words_of(const std::string& text, Matching matching = Matching::compiled) {
  const Gpt2Words words(matching);
  const Gpt2Words::Scratch scratch = words.scratch();
  Strings all;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = words.word_end(text, begin, scratch);
    all.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  return all;
}

TEST_CASE("gpt2 words: a text is cut as OpenAI's expression cuts it") {
  CHECK(words_of("Hello world, it's 2024!") ==
        Strings{"Hello", " world", ",", " it", "'s", " 2024", "!"});
  CHECK(words_of("we'll've I'd'm 're 't") ==
        Strings{"we", "'ll", "'ve", " I", "'d", "'m", " '", "re", " '", "t"});
  CHECK(words_of("IT'S it\u2019s 'lx'") ==
        Strings{"IT", "'", "S", " it", "\u2019", "s", " '", "lx", "'"});
  CHECK(words_of("a1b2 \u00b2\u0661") == Strings{"a", "1", "b", "2", " \u00b2\u0661"});
  CHECK(words_of("e\u0301") == Strings{"e", "\u0301"});
}

TEST_CASE("gpt2 words: the last blank before a word goes with it, if it is a space") {
  CHECK(words_of("a  b") == Strings{"a", " ", " b"});
  CHECK(words_of("a\n\nb") == Strings{"a", "\n", "\n", "b"});
  CHECK(words_of("a \n b") == Strings{"a", " \n", " b"});
  CHECK(words_of("a \u3000\u0085b") == Strings{"a", " \u3000", "\u0085", "b"});
  CHECK(words_of("a  ") == Strings{"a", "  "});
  CHECK(words_of("\r\nb\r\n") == Strings{"\r", "\n", "b", "\r\n"});
}

// Of each class a code point joins what is of the class already.
TEST_CASE("gpt2 words: every code point of every plane is of tiktoken's class") {
  std::ifstream stream(test::fixture("unicode_classes.json"));
  const auto ranges = nlohmann::json::parse(stream);
  std::string expected(0x110000, '!');
  const auto fill = [&](const char* name, char mark) {
    for (const auto& range : ranges.at(name)) {
      for (uint32_t c = range.at(0); c <= range.at(1).get<uint32_t>(); ++c) expected[c] = mark;
    }
  };
  fill("letter", 'a');
  fill("number", '1');
  fill("blank", ' ');
  fill("unassigned", '?');
  const Gpt2Words words;
  const Gpt2Words::Scratch scratch = words.scratch();
  const auto joins = [&](const std::string& text) {
    return words.word_end(text, 0, scratch) == text.size();
  };
  int newer = 0;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    const std::string one = test::utf8(c);
    const char found = joins("a" + one)    ? 'a'
                       : joins("1" + one)  ? '1'
                       : joins("\t" + one) ? ' '
                       : joins("!" + one)  ? '!'
                                           : 'x';
    const bool unassigned = expected[c] == '?';
    if (unassigned && found != '!') ++newer;
    if (!unassigned && found != expected[c]) {
      FAIL_CHECK("U+" << std::hex << c << " is '" << found << "' in place of '" << expected[c]
                      << "'");
    }
  }
  if (newer > 0) WARN(newer << " code points are newer in this PCRE2 than in tiktoken 0.14");
}

TEST_CASE("gpt2 words: where nothing may be compiled at run time the words are the same") {
  for (const std::string name : {"small.json", "gpt2.json"}) {
    for (const test::Encoded& golden : test::read_golden(name)) {
      const std::string& text = golden.text;
      // Only what is well-formed may be given.
      bool ascii = true;
      for (const char c : text) ascii = ascii && c >= 0;
      if (ascii) CHECK(words_of(text, Matching::interpreted) == words_of(text));
    }
  }
  const std::string text = "Größe 数字１２ \u180e\u2009x\u0301's";
  CHECK(words_of(text, Matching::interpreted) == words_of(text));
}

// Seconds, were it quadratic: hours.
TEST_CASE("gpt2 words: megabytes of one kind are a word or two, compiled or interpreted") {
  const size_t bytes = 3'000'000;
  for (const Matching matching : {Matching::compiled, Matching::interpreted}) {
    CHECK(words_of(std::string(bytes, 'a'), matching).size() == 1);
    CHECK(words_of(std::string(bytes, ' '), matching).size() == 1);
    CHECK(words_of(std::string(bytes, ' ') + "a", matching).size() == 2);
    CHECK(words_of(std::string(bytes, '\n') + "a", matching).size() == 3);
    std::string wide;
    for (size_t i = 0; i < bytes; i += 3) wide += "\u3000";
    CHECK(words_of(wide + "a", matching).size() == 3);
  }
}

}  // namespace
}  // namespace normlab
