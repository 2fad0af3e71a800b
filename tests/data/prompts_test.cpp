// Prompts with completions: what of a line becomes tokens, and which of them are targets.
#include "data/prompts.h"

#include <algorithm>
#include <map>

#include "catch.h"
#include "data/text_reader.h"
#include "data/token_stream.h"
#include "temporary_directory.h"
#include "tests/data/corpora.h"

namespace normlab {
namespace {

using namespace test;

const std::unique_ptr<Tokenizer> kBytes = make_tokenizer("bytes");

std::string written(const TemporaryDirectory& directory, const std::string& name,
                    const std::string& text) {
  write_bytes(directory.file(name), text);
  return directory.file(name);
}

TokenCorpus examples(const std::string& lines, const ChatRoles& roles = {}) {
  const TemporaryDirectory directory;
  return read_prompts({written(directory, "a.jsonl", lines)}, *kBytes, roles, 0).train;
}

// An end-of-text is written as |, what is no target in brackets.
std::string shown(const TokenCorpus& corpus) {
  std::string text;
  bool learnt = true;
  for (int64_t place = 0; place < corpus.size(); ++place) {
    if (corpus.is_learnt(place) != learnt) text += learnt ? '[' : ']';
    learnt = corpus.is_learnt(place);
    text += corpus[place] == 256 ? '|' : static_cast<char>(corpus[place]);
  }
  return text;
}

std::string line_error(const std::string& line) {
  const TemporaryDirectory directory;
  const std::string file =
      written(directory, "a.jsonl", "{\"prompt\":\"a\",\"completion\":\"b\"}\n" + line);
  return input_error_of([&] { read_prompts({file}, *kBytes, {}, 0); });
}

// The targets of an epoch, by what stands before each and what it is.
std::map<std::pair<int32_t, int32_t>, int> targets_of(const TokenCorpus& corpus,
                                                      const StreamOptions& options) {
  TokenStream stream(corpus, options);
  std::map<std::pair<int32_t, int32_t>, int> seen;
  const HostBatch batch = stream.next(stream.sequences_per_epoch());
  int64_t count = 0;
  for (size_t i = 0; i < batch.targets.size(); ++i) {
    if (batch.targets[i] < 0) continue;
    ++seen[{batch.tokens[i], batch.targets[i]}];
    ++count;
  }
  CHECK(batch.target_count == count);
  return seen;
}

}  // namespace

TEST_CASE("prompts: a completion and its end of text are learnt, the prompt is not") {
  CHECK(shown(examples(R"({"prompt": "ask ", "completion": "say", "id": 7})")) == "[ask ]say|");
  CHECK(shown(examples(R"({"completion": "say", "prompt": ""})")) == "say|");
  const TokenCorpus two = examples(
      "{\"prompt\":\"a\",\"completion\":\"b\"}\n\n{\"prompt\":\"c\",\"completion\":\"d\"}\n");
  CHECK(shown(two) == "[a]b|[c]d|");
  CHECK(starts_of(two) == std::vector<int64_t>{0, 3});
}

TEST_CASE("prompts: of a chat the assistant's turns are learnt") {
  const std::string chat =
      R"({"messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "a"},
          {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"},
          {"role": "assistant", "content": "d", "x": 1}, {"role": "user", "content": "lost"}]})";
  std::string line = chat;
  std::erase(line, '\n');
  CHECK(shown(examples(line)) == "[be\nUser:\na\nAssistant:\n]b|[User:\nc\nAssistant:\n]d|");
  CHECK(shown(examples(line, {"S ", "U ", "A "})) == "[S be\nU a\nA ]b|[U c\nA ]d|");
  // One document, though it has two ends of text.
  CHECK(starts_of(examples(line)) == std::vector<int64_t>{0});
}

TEST_CASE("prompts: an example a row, its targets are those of its completion") {
  const TokenCorpus corpus = examples(
      "{\"prompt\":\"pq\",\"completion\":\"xyz\"}\n{\"prompt\":\"r\",\"completion\":\"w\"}\n");
  StreamOptions options;
  options.tokens_per_sequence = 4;
  options.packing = RowPacking::padded;
  options.shuffled = false;
  const HostBatch batch = TokenStream(corpus, options).next(2);
  CHECK(batch.tokens == std::vector<int32_t>{'p', 'q', 'x', 'y', 'r', 'w', 256, 256});
  CHECK(batch.targets == std::vector<int32_t>{-1, 'x', 'y', 'z', 'w', 256, -1, -1});
  CHECK(batch.lengths == std::vector<int32_t>{4, 3});
  CHECK(batch.target_count == 5);
  CHECK(batch.token_count == 7);
}

TEST_CASE("prompts: over an epoch every token to learn is a target once, and no other is") {
  std::string lines;
  for (int i = 0; i < 23; ++i) {
    lines += R"({"prompt": ")" + std::string(static_cast<size_t>(i % 5), 'p') +
             R"(", "completion": ")" + std::string(static_cast<size_t>(1 + i % 7), 'c') + "\"}\n";
  }
  const TokenCorpus corpus = examples(lines);
  std::map<std::pair<int32_t, int32_t>, int> joined, apart;
  for (int64_t place = 1; place < corpus.size(); ++place) {
    if (!corpus.is_learnt(place)) continue;
    const std::pair<int32_t, int32_t> pair{corpus[place - 1], corpus[place]};
    ++joined[pair];
    if (pair.first != 256) ++apart[pair];  // the first of a row is predicted from nothing
  }
  StreamOptions options;
  for (const int64_t length : {1, 4, 9, 500}) {
    options.tokens_per_sequence = length;
    options.packing = RowPacking::concatenated;
    CHECK(targets_of(corpus, options) == joined);
  }
  options.packing = RowPacking::padded;
  CHECK(targets_of(corpus, options) == apart);
}

TEST_CASE("prompts: what is learnt is part of the data's identity") {
  const auto hash = [](std::vector<uint8_t> learnt) {
    return TokenCorpus(describe(*kBytes), {1, 2, 3}, {0}, std::move(learnt)).hash();
  };
  CHECK(hash({0, 1, 1}) != hash({0, 0, 1}));
  CHECK(hash({0, 1, 1}) != hash({}));
  CHECK(hash({0, 1, 1}) == hash({0, 1, 1}));
}

TEST_CASE("prompts: examples that are cut, and those without a target, are counted") {
  const TokenCorpus corpus = examples(
      "{\"prompt\":\"abc\",\"completion\":\"d\"}\n{\"prompt\":\"abcd\",\"completion\":\"e\"}\n"
      "{\"prompt\":\"a\",\"completion\":\"bcdef\"}\n{\"prompt\":\"a\",\"completion\":\"b\"}\n");
  const CutExamples counts = count_cut(corpus, 3);
  CHECK(counts.examples == 4);
  CHECK(counts.cut == 3);             // all but the last are longer than 4 tokens
  CHECK(counts.without_target == 1);  // of the second nothing but the prompt is seen
  CHECK(count_cut(corpus, 6).cut == 0);
  CHECK(count_cut(corpus, 1).without_target == 2);
}

TEST_CASE("prompts: the last examples of each file are for validation") {
  const TemporaryDirectory directory;
  std::string lines;
  for (char letter = 'a'; letter < 'a' + 10; ++letter) {
    lines += std::string(R"({"prompt": "p", "completion": ")") + letter + "\"}\n";
  }
  const std::string file = written(directory, "a.jsonl", lines);
  const SplitCorpus split = read_prompts({file}, *kBytes, {}, 0.2);
  CHECK(shown(split.validation) == "[p]i|[p]j|");
  CHECK(split.train.starts().size() == 8);
  CHECK(split.train.has_prompts());
  CHECK(input_error_of([&] { read_prompts({file}, *kBytes, {}, 0.01); }).find("too few") !=
        std::string::npos);
}

TEST_CASE("prompts: what is wrong is named with file and line") {
  const std::pair<const char*, const char*> cases[] = {
      {"[1]", "the line is array (an object is wanted)"},
      {R"({"prompt": "a"})", "no key \"completion\""},
      {R"({"completion": "a"})", "no key \"prompt\""},
      {R"({"prompt": 1, "completion": "a"})", "\"prompt\" is number (a text is wanted)"},
      {R"({"prompt": "a", "completion": ["b"]})", "\"completion\" is array (a text is wanted)"},
      {R"({"prompt": "a", "completion": ""})", "\"completion\" is empty"},
      {R"({"messages": "a"})", "\"messages\" is string (a list of turns is wanted)"},
      {R"({"messages": []})", "no turn is the assistant's"},
      {R"({"messages": [{"role": "user", "content": "a"}]})", "no turn is the assistant's"},
      {R"({"messages": [1]})", "turn 1: it is number (an object is wanted)"},
      {R"({"messages": [{"content": "a"}]})", "turn 1: no key \"role\""},
      {R"({"messages": [{"role": "user"}]})", "turn 1: no key \"content\""},
      {R"({"messages": [{"role": "tool", "content": "a"}]})", "turn 1: \"role\" is another"},
      {R"({"messages": [{"role": "assistant", "content": ""}]})", "\"content\" is empty"},
      {"{", "malformed JSON"}};
  for (const auto& [line, reason] : cases) {
    const std::string message = line_error(line);
    INFO(message);
    CHECK(message.find("a.jsonl:2: ") != std::string::npos);
    CHECK(message.find(reason) != std::string::npos);
    CHECK(std::count(message.begin(), message.end(), '\n') == 0);
  }
  const TemporaryDirectory directory;
  const std::string text = written(directory, "a.txt", "a");
  CHECK(input_error_of([&] {
          read_prompts({text}, *kBytes, {}, 0);
        }).find("prompts are read from JSON lines only") != std::string::npos);
}

}  // namespace normlab
