// Over an epoch every (document, offset) is seen exactly once, whoever sees it.
#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "catch.h"
#include "data/token_stream.h"
#include "tests/data/corpora.h"
#include "tests/data/token_set.h"

namespace normlab {
namespace {

using namespace test;

constexpr uint16_t kEnd = 65535;

// (document, offset) of a target. Every id but the end's occurs once in a corpus of these tests, so
// that an id says where it comes from; an end follows the last token of its document.
using Place = std::pair<int64_t, int64_t>;
using Places = std::map<Place, int>;

struct Texts {
  std::vector<std::vector<uint16_t>> tokens;  // each with its end
  std::vector<Place> place_of_id = std::vector<Place>(65536);

  explicit Texts(const std::vector<int64_t>& lengths) {
    uint16_t id = 0;
    for (const int64_t length : lengths) {
      tokens.emplace_back();
      for (int64_t i = 0; i + 1 < length; ++i) {
        place_of_id[id] = {static_cast<int64_t>(tokens.size()) - 1, i};
        tokens.back().push_back(id++);
      }
      tokens.back().push_back(kEnd);
    }
  }
  // Where the token that follows `input` stands; an end for `input` begins the next document.
  Place after(uint16_t input, uint16_t target) const {
    if (target != kEnd) return place_of_id[target];
    const Place before = place_of_id[input];
    return {before.first, before.second + 1};
  }
};

// Lengths of 2 tokens at least: two ends one after another could not be told apart.
std::vector<int64_t> some_lengths(size_t count, int64_t longest) {
  std::mt19937 random(7);
  std::vector<int64_t> lengths;
  for (size_t i = 0; i < count; ++i)
    lengths.push_back(2 + int64_t(random() % uint32_t(longest - 1)));
  return lengths;
}

struct WideSet : TokenSet {
  explicit WideSet(std::optional<RowLayout> rows = {}) : TokenSet(rows) {
    manifest.vocabulary = 65536;
    manifest.end_of_text = kEnd;
  }
};

// Texts one after another, cut into shards anywhere.
void add_joined(TokenSet& set, const Texts& documents, const std::vector<size_t>& cuts) {
  std::vector<uint16_t> all;
  for (const auto& document : documents.tokens)
    all.insert(all.end(), document.begin(), document.end());
  size_t first = 0;
  for (const size_t cut : cuts) {
    set.add({all.begin() + ptrdiff_t(first), all.begin() + ptrdiff_t(cut)});
    first = cut;
  }
  set.add({all.begin() + ptrdiff_t(first), all.end()});
}

// A document a row, cut or filled up; a shard ends after each row named.
void add_padded(TokenSet& set, const Texts& documents, const std::vector<size_t>& ends) {
  const auto width = static_cast<size_t>(set.manifest.rows->length);
  std::vector<uint16_t> tokens;
  std::vector<uint32_t> lengths;
  for (size_t i = 0; i < documents.tokens.size(); ++i) {
    std::vector<uint16_t> row = documents.tokens[i];
    lengths.push_back(static_cast<uint32_t>(std::min(row.size(), width)));
    row.resize(width, static_cast<uint16_t>(set.manifest.rows->pad));
    tokens.insert(tokens.end(), row.begin(), row.end());
    if (std::count(ends.begin(), ends.end(), i) == 0 && i + 1 < documents.tokens.size()) continue;
    set.add(std::exchange(tokens, {}), std::exchange(lengths, {}));
  }
}

// One step as the ranks of a run take it: each the passes of its part.
void take_step(const HostBatch& step, int64_t ranks, int64_t micro_batch, const Texts& documents,
               std::vector<Places>& seen, int64_t epoch_sequences, int64_t first_sequence) {
  int64_t sequences = 0;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    for (const auto [first, last] :
         passes_of(part_of_step(step.sequences, rank, ranks), micro_batch)) {
      REQUIRE(last - first <= micro_batch);
      for (int64_t sequence = first; sequence < last; ++sequence) {
        const auto epoch = static_cast<size_t>((first_sequence + sequence) / epoch_sequences);
        seen.resize(std::max(seen.size(), epoch + 1));
        ++sequences;
        for (int64_t i = 0; i < step.tokens_per_sequence; ++i) {
          const auto at = static_cast<size_t>(sequence * step.tokens_per_sequence + i);
          if (step.targets[at] < 0) continue;
          ++seen[epoch][documents.after(static_cast<uint16_t>(step.tokens[at]),
                                        static_cast<uint16_t>(step.targets[at]))];
        }
      }
    }
  }
  REQUIRE(sequences == step.sequences);
}

// What two epochs show for every split of a step, stopped and gone on with in the middle.
void check_epochs(const TokenCorpus& corpus, StreamOptions options, const Texts& documents,
                  const Places& expected) {
  for (const int64_t ranks : {1, 2, 3}) {
    for (const auto& [step_sequences, micro_batch] :
         std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {3, 1}, {8, 2}, {7, 3}, {10, 64}}) {
      INFO("ranks " << ranks << ", step " << step_sequences << ", micro-batch " << micro_batch);
      options.seed = static_cast<uint64_t>(ranks * 100 + micro_batch);
      auto stream = std::make_unique<TokenStream>(corpus, options);
      const int64_t epoch = stream->sequences_per_epoch();
      std::vector<Places> seen;
      while (stream->state().position < 2 * epoch) {
        if (stream->state().position / step_sequences % 5 == 3) {  // resumed
          const StreamState state = stream->state();
          stream = std::make_unique<TokenStream>(corpus, options);
          stream->restore(state);
        }
        const int64_t position = stream->state().position;
        // The last step of the second epoch is cut, so that no third begins.
        const int64_t count = std::min(step_sequences, 2 * epoch - position);
        take_step(stream->next(count), ranks, micro_batch, documents, seen, epoch, position);
      }
      REQUIRE(seen.size() == 2);
      CHECK((seen[0] == expected));
      CHECK((seen[1] == expected));
    }
  }
}

}  // namespace

TEST_CASE("epoch: of joined documents every token but the first is a target once") {
  const Texts documents(some_lengths(60, 40));
  Places expected;
  for (size_t i = 0; i < documents.tokens.size(); ++i) {
    for (size_t k = 0; k < documents.tokens[i].size(); ++k) expected[{int64_t(i), int64_t(k)}] = 1;
  }
  expected.erase({0, 0});
  for (const std::vector<size_t>& cuts :
       std::vector<std::vector<size_t>>{{}, {1}, {160, 161, 320, 480}, {17, 333, 334}}) {
    WideSet set;
    add_joined(set, documents, cuts);
    const TokenCorpus corpus = read_shards(set.files());
    for (const int64_t length : {1, 16, 50}) {
      StreamOptions options;
      options.tokens_per_sequence = length;
      check_epochs(corpus, options, documents, expected);
    }
  }
}

TEST_CASE(
    "epoch: of joined documents, a row each, every token after the first within a row is seen") {
  const Texts documents(some_lengths(37, 40));
  WideSet set;
  add_joined(set, documents, {5, 200});
  const TokenCorpus corpus = read_shards(set.files());
  for (const int64_t length : {7, 64}) {
    Places expected;
    for (size_t i = 0; i < documents.tokens.size(); ++i) {
      const auto shown = std::min<size_t>(documents.tokens[i].size(), size_t(length) + 1);
      for (size_t k = 1; k < shown; ++k) expected[{int64_t(i), int64_t(k)}] = 1;
    }
    StreamOptions options;
    options.tokens_per_sequence = length;
    options.packing = RowPacking::padded;
    check_epochs(corpus, options, documents, expected);
  }
}

TEST_CASE("epoch: of a padded set every real token after a row's first is a target once") {
  const Texts documents(some_lengths(37, 24));
  const std::vector<std::pair<int64_t, int32_t>> layouts = {{16, kEnd}, {16, 3}, {40, kEnd}};
  for (const auto& [width, pad] : layouts) {
    WideSet set(RowLayout{width, pad});
    add_padded(set, documents, {0, 11, 30});
    REQUIRE(set.files().size() == 4);
    const TokenCorpus corpus = read_shards(set.files());
    for (const int64_t length : {5, 15, 16}) {
      Places expected;
      for (size_t i = 0; i < documents.tokens.size(); ++i) {
        const auto real = std::min(documents.tokens[i].size(), size_t(width));
        for (size_t k = 1; k < std::min(real, size_t(length) + 1); ++k) {
          expected[{int64_t(i), int64_t(k)}] = 1;
        }
      }
      StreamOptions options;
      options.tokens_per_sequence = length;
      options.packing = RowPacking::padded;
      check_epochs(corpus, options, documents, expected);
    }
  }
}

TEST_CASE("epoch: parts of a step are contiguous, cover it and differ by one at most") {
  for (int64_t sequences = 0; sequences < 40; ++sequences) {
    for (int64_t parts = 1; parts < 9; ++parts) {
      int64_t next = 0, smallest = sequences, largest = 0, passes = 0;
      for (int64_t part = 0; part < parts; ++part) {
        const auto [first, last] = part_of_step(sequences, part, parts);
        CHECK(first == next);
        next = last;
        smallest = std::min(smallest, last - first);
        largest = std::max(largest, last - first);
        passes += (last - first + 2) / 3;
      }
      CHECK(next == sequences);
      CHECK(largest - smallest <= 1);
      CHECK(passes_per_step(sequences, parts, 3) == passes);
    }
  }
}

TEST_CASE("token_stream: a padded row shows its document, and its end is a target like any other") {
  // The pad is the end-of-text: only the lengths tell the two apart.
  TokenSet set(RowLayout{4, 256});
  set.add({1, 2, 3, 4, 5, 256, 256, 256, 256, 256, 256, 256, 6, 256, 256, 256}, {4, 2, 1, 4});
  set.add({7, 256, 256, 256}, {0});
  const TokenCorpus corpus = read_shards(set.files());
  StreamOptions options;
  options.tokens_per_sequence = 4;
  options.packing = RowPacking::padded;
  options.shuffled = false;
  const HostBatch whole = TokenStream(corpus, options).next(5);
  CHECK(whole.tokens == std::vector<int32_t>{1,   2,   3, 4,   5,   256, 256, 256, 256, 256,
                                             256, 256, 6, 256, 256, 256, 256, 256, 256, 256});
  CHECK(whole.targets == std::vector<int32_t>{2,  3,  4,   -1,  256, -1, -1, -1, -1, -1,
                                              -1, -1, 256, 256, 256, -1, -1, -1, -1, -1});
  CHECK(whole.target_count == 7);
  options.tokens_per_sequence = 3;  // then the last one has a target
  CHECK(TokenStream(corpus, options).next(1).targets == std::vector<int32_t>{2, 3, 4});
  options.mask_eot_targets = true;
  CHECK(TokenStream(corpus, options).next(2).target_count == 3);
}

TEST_CASE("token_stream: a padded row is filled up with the set's own pad") {
  TokenSet set(RowLayout{4, 9});
  set.add({1, 256, 9, 9}, {2});
  const TokenCorpus corpus = read_shards(set.files());
  StreamOptions options;
  options.tokens_per_sequence = 3;
  options.packing = RowPacking::padded;
  CHECK(TokenStream(corpus, options).next(1).tokens == std::vector<int32_t>{1, 256, 9});
}

TEST_CASE("token_stream: a padded set is neither joined nor read beyond its rows") {
  TokenSet set(RowLayout{4, 256});
  set.add({1, 256, 256, 256}, {2});
  const TokenCorpus corpus = read_shards(set.files());
  StreamOptions options;
  options.tokens_per_sequence = 4;
  const auto error = [&] { return input_error_of([&] { TokenStream(corpus, options); }); };
  CHECK(contains(error(), "packing concatenated (the token set is padded"));
  options.packing = RowPacking::padded;
  CHECK(error() == "no error");
  options.tokens_per_sequence = 5;
  CHECK(contains(error(), "sequences of 5 tokens (the rows of the token set have 4)"));
}

}  // namespace normlab
