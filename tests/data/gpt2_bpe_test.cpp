#include "data/gpt2_bpe.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "catch.h"
#include "data/gpt2_merger.h"
#include "data/utf8.h"
#include "tests/data/temporary_directory.h"
#include "tests/data/tokenizer_golden.h"

namespace normlab {
namespace {

const std::string kGpt2 = std::string(SOURCE_DIRECTORY) + "/../shared/gpt2-tokenizer";

bool has_gpt2() {
  if (std::filesystem::exists(kGpt2 + "/vocab.json")) return true;
  WARN("skipped: ../shared/gpt2-tokenizer is not there");
  return false;
}

std::unique_ptr<Tokenizer> small() { return make_tokenizer("gpt2:" + test::fixture("small")); }

TEST_CASE("gpt2: the ids of a small vocabulary are tiktoken's and Hugging Face's") {
  test::check_golden(*small(), "small.json");
}

TEST_CASE("gpt2: the ids of GPT-2's vocabulary are tiktoken's") {
  if (has_gpt2()) test::check_golden(*make_tokenizer("gpt2:" + kGpt2), "gpt2.json");
}

TEST_CASE("gpt2: says what it is") {
  const auto tokenizer = small();
  CHECK(tokenizer->name() == "gpt2:" + test::fixture("small"));
  CHECK(tokenizer->vocabulary() > 400);
  CHECK(tokenizer->end_of_text() == 0);
  CHECK(tokenizer->files() == std::vector<std::string>{test::fixture("small") + "/vocab.json",
                                                       test::fixture("small") + "/merges.txt"});
  CHECK(tokenizer->hash() == small()->hash());
  CHECK(tokenizer->hash() != 0);
  if (!has_gpt2()) return;
  const auto gpt2 = make_tokenizer("gpt2:" + kGpt2);
  CHECK(gpt2->vocabulary() == 50257);
  CHECK(gpt2->end_of_text() == 50256);
  CHECK(gpt2->hash() != tokenizer->hash());
  CHECK(gpt2->encode("Hello world") == std::vector<uint16_t>{15496, 995});
}

TEST_CASE("gpt2: what is encoded comes back in its bytes and replacements where they were ill") {
  const auto tokenizer = small();
  for (const test::Encoded& golden : test::read_golden("small.json")) {
    CHECK(tokenizer->decode(golden.ids) == with_replacements(golden.text));
  }
  // Any ids, also such as no text has: the bytes are put in a row.
  CHECK(tokenizer->decode({}).empty());
  std::string bytes;
  for (int32_t id = 0; id < tokenizer->vocabulary(); ++id) {
    bytes += tokenizer->decode({static_cast<uint16_t>(id)});
  }
  std::string values = bytes;
  std::ranges::sort(values);
  values.erase(std::unique(values.begin(), values.end()), values.end());
  CHECK(values.size() == 256);
}

TEST_CASE("gpt2: end of text is text in a text, and nothing when it is decoded") {
  const auto tokenizer = small();
  const auto ids = tokenizer->encode("a<|endoftext|>b");
  CHECK(std::ranges::count(ids, tokenizer->end_of_text()) == 0);
  CHECK(tokenizer->decode(ids) == "a<|endoftext|>b");
  const auto end = static_cast<uint16_t>(tokenizer->end_of_text());
  CHECK(tokenizer->decode({end, ids.front(), end}) == "a");
}

TEST_CASE("gpt2: an id beyond the vocabulary and a folder without files are input errors") {
  const auto tokenizer = small();
  const auto beyond = static_cast<uint16_t>(tokenizer->vocabulary());
  CHECK(test::contains(test::input_error_of([&] {
                         tokenizer->decode({5, beyond});
                       }),
                       "token " + std::to_string(beyond) + " is not in the vocabulary (gpt2:"));
  for (const std::string folder : {"", "absent", SOURCE_DIRECTORY}) {
    CHECK(test::contains(test::input_error_of([&] { make_tokenizer("gpt2:" + folder); }),
                         folder + "/vocab.json: no such file (gpt2:DIR needs DIR/vocab.json"));
  }
}

// The way of GPT-2's encoder.py: look through all pairs, merge the first of the list, again.
std::vector<uint16_t> merged_slowly(const Gpt2Vocabulary& vocabulary, const std::string& word) {
  std::vector<uint16_t> tokens;
  for (const char c : word) {
    tokens.push_back(vocabulary.byte_tokens[static_cast<unsigned char>(c)]);
  }
  for (bool merged = true; merged;) {
    merged = false;
    for (const auto& merge : vocabulary.merges) {
      for (size_t i = 0; i + 1 < tokens.size() && !merged; ++i) {
        if (tokens[i] != merge.left || tokens[i + 1] != merge.right) continue;
        tokens[i] = merge.result;
        tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        merged = true;
      }
      if (merged) break;
    }
  }
  return tokens;
}

TEST_CASE("gpt2: merging takes the first pair of the list and of equal ones the leftmost") {
  const Gpt2Vocabulary vocabulary =
      read_gpt2_vocabulary(test::fixture("small/vocab.json"), test::fixture("small/merges.txt"));
  const Gpt2Merger merger(vocabulary);
  Gpt2Merger::Scratch scratch;
  std::mt19937 random(1);
  for (int round = 0; round < 3000; ++round) {
    // Few letters: overlapping pairs (aaa) are frequent.
    const std::string letters = round % 2 == 0 ? " theanods" : "ens";
    std::string word;
    for (unsigned length = random() % 25; word.size() < length;) {
      word += letters[random() % letters.size()];
    }
    std::vector<uint16_t> tokens;
    merger.merge(tokens, word, scratch);
    INFO(word);
    CHECK(tokens == merged_slowly(vocabulary, word));
  }
}

// Then tiktoken, which merges whatever gives a token, and encoder.py, which merges what merges.txt
// lists, give the same ids to every text: a pair that is not listed would have to come up while
// its own token is made, and there only listed ones do.
TEST_CASE("gpt2: the bytes of every token of GPT-2's vocabulary merge to that token") {
  if (!has_gpt2()) return;
  const Gpt2Vocabulary vocabulary =
      read_gpt2_vocabulary(kGpt2 + "/vocab.json", kGpt2 + "/merges.txt");
  const Gpt2Merger merger(vocabulary);
  Gpt2Merger::Scratch scratch;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (static_cast<int64_t>(id) == vocabulary.end_of_text) continue;
    std::vector<uint16_t> tokens;
    merger.merge(tokens, vocabulary.tokens[id], scratch);
    if (tokens != std::vector<uint16_t>{static_cast<uint16_t>(id)}) FAIL_CHECK("token " << id);
  }
}

TEST_CASE("gpt2: a word of megabytes takes time in proportion to it") {
  const auto tokenizer = small();
  const auto seconds_of = [&](const std::string& text) {
    const auto begin = std::chrono::steady_clock::now();
    CHECK(tokenizer->decode(tokenizer->encode(text)).size() == text.size());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  for (const std::string piece : {"a", "the", " ", "\n", "'", "1", "\u4e2d"}) {
    std::string text;
    while (text.size() < 2'000'000) text += piece;
    INFO('"' << piece << '"');
    CHECK(seconds_of(text + "x") < 60);  // were it quadratic: an hour
  }
}

TEST_CASE("gpt2: words that stand in the cache have the ids that they had") {
  const auto tokenizer = small();
  const auto all = test::read_golden("small.json");
  std::mt19937 random(2);
  for (int round = 0; round < 20; ++round) {
    // More words than the cache has room for, so that they throw each other out.
    std::string many;
    for (int word = 0; word < 20'000; ++word) many += " " + std::to_string(random());
    CHECK(tokenizer->decode(tokenizer->encode(many)) == many);
    const test::Encoded& golden = all[random() % all.size()];
    CHECK(tokenizer->encode(golden.text) == golden.ids);
  }
}

TEST_CASE("gpt2: several threads may encode and decode at once") {
  const auto tokenizer = small();
  const auto all = test::read_golden("small.json");
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (size_t thread = 0; thread < wrong.size(); ++thread) {
    threads.emplace_back([&, thread] {
      for (size_t i = 0; i < 4 * all.size(); ++i) {
        const test::Encoded& golden = all[(i + thread * 37) % all.size()];
        if (tokenizer->encode(golden.text) != golden.ids) ++wrong[thread];
        if (tokenizer->decode(golden.ids) != with_replacements(golden.text)) ++wrong[thread];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4, 0));
}

}  // namespace
}  // namespace normlab
