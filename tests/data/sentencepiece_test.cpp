#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "catch.h"
#include "data/sentencepiece_charsmap.h"
#include "data/tokenizer.h"
#include "tests/data/temporary_directory.h"
#include "tests/data/tokenizer_golden.h"

namespace normlab {
namespace {

using test::contains;
using test::input_error_of;

std::unique_ptr<Tokenizer> model(const std::string& name) {
  return make_tokenizer("sentencepiece:" + test::fixture(name));
}

bool has_sentencepiece() {
  const std::string message = input_error_of([] { make_tokenizer("sentencepiece:absent"); });
  if (!contains(message, "this build has no SentencePiece")) return true;
  WARN("skipped: " << message);
  return false;
}

TEST_CASE("sentencepiece: ids are those of Python's sentencepiece") {
  if (!has_sentencepiece()) return;
  for (const std::string name : {"unigram", "bpe", "normalised"}) {
    test::check_golden(*model(name + ".model"), name + ".json");
  }
}

TEST_CASE("sentencepiece: says what it is") {
  if (!has_sentencepiece()) return;
  const auto unigram = model("unigram.model");
  CHECK(unigram->name() == "sentencepiece:" + test::fixture("unigram.model"));
  CHECK(unigram->files() == std::vector<std::string>{test::fixture("unigram.model")});
  CHECK(unigram->vocabulary() > 256);
  CHECK(unigram->end_of_text() == 2);
  CHECK(model("bpe.model")->end_of_text() == -1);
}

TEST_CASE("sentencepiece: its hash is of the model and not of where it lies") {
  if (!has_sentencepiece()) return;
  const test::TemporaryDirectory directory;
  const std::string content = test::read_bytes(test::fixture("unigram.model"));
  test::write_bytes(directory.file("tokenizer.model"), content);
  const auto copy = make_tokenizer("sentencepiece:" + directory.file("tokenizer.model"));
  CHECK(copy->hash() == model("unigram.model")->hash());
  CHECK(copy->hash() != model("bpe.model")->hash());
  // Read once: what becomes of the file later changes nothing.
  std::filesystem::remove(directory.file("tokenizer.model"));
  CHECK(copy->hash() == model("unigram.model")->hash());
  CHECK(copy->decode(copy->encode("the norm")) == "the norm");
}

TEST_CASE("sentencepiece: what is encoded comes back and end of text is nothing") {
  if (!has_sentencepiece()) return;
  const auto tokenizer = model("unigram.model");
  for (const std::string text : {"The norm was removed.", "a\tb", "数字 😀", ""}) {
    std::vector<uint16_t> ids = tokenizer->encode(text);
    CHECK(tokenizer->decode(ids) == text);
    ids.push_back(static_cast<uint16_t>(tokenizer->end_of_text()));
    CHECK(tokenizer->decode(ids) == text);
  }
}

TEST_CASE("sentencepiece: an id beyond the vocabulary is an input error") {
  if (!has_sentencepiece()) return;
  const auto tokenizer = model("bpe.model");
  const auto beyond = static_cast<uint16_t>(tokenizer->vocabulary());
  CHECK(contains(input_error_of([&] {
                   tokenizer->decode({5, beyond});
                 }),
                 "token " + std::to_string(beyond) + " is not in the vocabulary (sentencepiece:"));
}

TEST_CASE("sentencepiece: a file that is no model is an input error that names it") {
  if (!has_sentencepiece()) return;
  const test::TemporaryDirectory directory;
  const std::string file = directory.file("tokenizer.model");
  const auto message = [&] {
    return input_error_of([&] { make_tokenizer("sentencepiece:" + file); });
  };
  CHECK(contains(message(), file + ": no such file"));
  const std::string good = test::read_bytes(test::fixture("normalised.model"));
  const std::vector<std::string> bad = {"", "hello\n", std::string(100, '\0'),
                                        good.substr(0, good.size() / 2)};
  for (const std::string& content : bad) {
    test::write_bytes(file, content);
    INFO(message());
    CHECK(contains(message(), file + ": no SentencePiece model ("));
  }
  CHECK(
      contains(input_error_of([&] { make_tokenizer("sentencepiece:" + directory.path.string()); }),
               directory.path.string() + ": no such file"));
}

// Pieces as the file holds them: field 1, of it the piece itself (1), its score (2), its kind (3).
TEST_CASE("sentencepiece: more tokens than 16 bits count are refused") {
  if (!has_sentencepiece()) return;
  const test::TemporaryDirectory directory;
  const std::string file = directory.file("tokenizer.model");
  std::string content = test::read_bytes(test::fixture("bpe.model"));
  for (int i = model("bpe.model")->vocabulary(); i < 65536; ++i) {
    const std::string piece = "#" + std::to_string(100'000 + i);  // seven bytes
    content += "\x0A\x0E\x0A\x07" + piece + std::string("\x15\0\0\0\0", 5);
  }
  test::write_bytes(file, content);
  CHECK(make_tokenizer("sentencepiece:" + file)->vocabulary() == 65536);
  test::write_bytes(file, content + "\x0A\x0E\x0A\x07one too" + std::string("\x15\0\0\0\0", 5));
  CHECK(contains(input_error_of([&] { make_tokenizer("sentencepiece:" + file); }),
                 file + ": a vocabulary of 65537 tokens (at most 65536"));
}

TEST_CASE("sentencepiece: several threads may encode and decode at once") {
  if (!has_sentencepiece()) return;
  for (const std::string name : {"unigram", "bpe"}) {
    const auto tokenizer = model(name + ".model");
    const auto all = test::read_golden(name + ".json");
    std::vector<std::thread> threads;
    std::vector<int> wrong(4, 0);
    for (size_t thread = 0; thread < wrong.size(); ++thread) {
      threads.emplace_back([&, thread] {
        for (size_t i = 0; i < 4 * all.size(); ++i) {
          const test::Encoded& golden = all[(i + thread * 37) % all.size()];
          if (tokenizer->encode(golden.text) != golden.ids) ++wrong[thread];
          tokenizer->decode(golden.ids);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == std::vector<int>(4, 0));
  }
}

TEST_CASE("sentencepiece: tables of normalisation that lead out of themselves are found") {
  const std::string good = test::read_bytes(test::fixture("normalised.model"));
  CHECK(charsmaps_are_sound(good));
  CHECK(charsmaps_are_sound(test::read_bytes(test::fixture("unigram.model"))));
  CHECK(charsmaps_are_sound(""));
  for (const size_t size : {size_t{1}, good.size() / 2, good.size() - 1}) {
    CHECK_FALSE(charsmaps_are_sound(good.substr(0, size)));
  }
  // A model of one normalizer_spec (3) with one table (2): its size, units, and strings.
  const auto model_of = [](const std::string& table) {
    const auto field = [](char tag, const std::string& bytes) {
      return std::string{tag, static_cast<char>(0x80 | (bytes.size() & 0x7F)),
                         static_cast<char>(bytes.size() >> 7)} +
             bytes;
    };
    return field(0x1A, field(0x12, table));
  };
  // The units that 'a' leads to: unit 1 ^ 'a' is the step, 3 ^ … the place of its value.
  const auto table = [](uint32_t root, uint32_t step, uint32_t value, const std::string& strings) {
    std::vector<uint32_t> units(256, 0x80000000);
    units[0] = root;
    units[1 ^ 'a'] = step;
    units[1 ^ 'a' ^ 2] = value;
    std::string bytes = {0, 4, 0, 0};
    for (const uint32_t unit : units) {
      for (int k = 0; k < 4; ++k) bytes += static_cast<char>(unit >> (8 * k) & 0xFF);
    }
    return bytes + strings;
  };
  const uint32_t root = 1 << 10;
  const uint32_t step = 2 << 10 | 1 << 8 | 'a';
  const std::string strings("b\0", 2);
  CHECK(charsmaps_are_sound(model_of(table(root, step, 0x80000001, strings))));
  CHECK_FALSE(charsmaps_are_sound(model_of(table(root, step, 0x80000002, strings))));
  CHECK_FALSE(charsmaps_are_sound(model_of(table(root, step, 0x80000001, "bc"))));
  CHECK_FALSE(charsmaps_are_sound(model_of(table(256 << 10, step, 0x80000001, strings))));
  CHECK_FALSE(charsmaps_are_sound(model_of(table(root, step | 256 << 10, 0x80000001, strings))));
  CHECK_FALSE(charsmaps_are_sound(model_of(std::string("\xFF\0\0\0", 4) + strings)));
}

}  // namespace
}  // namespace normlab
