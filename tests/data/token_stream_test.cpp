#include "data/token_stream.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "catch.h"
#include "kernels/error.h"
#include "tests/data/corpora.h"

namespace normlab {
namespace {

using namespace test;

// Token i of a corpus is i: what a batch shows then says where it comes from.
TokenCorpus numbered(int64_t count, std::vector<int64_t> starts = {0}, int32_t end_of_text = -1) {
  std::vector<uint16_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<uint16_t>(i));
  return corpus_of(std::move(tokens), std::move(starts), end_of_text);
}

StreamOptions options_of(int64_t length, uint64_t seed = 1) {
  StreamOptions options;
  options.tokens_per_sequence = length;
  options.seed = seed;
  return options;
}

bool equal(const HostBatch& a, const HostBatch& b) {
  return a.sequences == b.sequences && a.tokens_per_sequence == b.tokens_per_sequence &&
         a.tokens == b.tokens && a.targets == b.targets && a.target_count == b.target_count;
}

// Counts each target; each must follow its input in the corpus, and the count must be right.
void count_targets(const HostBatch& batch, std::map<int32_t, int>& seen) {
  int64_t targets = 0;
  for (size_t i = 0; i < batch.targets.size(); ++i) {
    if (batch.targets[i] < 0) continue;
    REQUIRE(batch.targets[i] == batch.tokens[i] + 1);
    ++seen[batch.targets[i]];
    ++targets;
  }
  REQUIRE(batch.target_count == targets);
}

std::map<int32_t, int> once_each(int32_t begin, int32_t end) {
  std::map<int32_t, int> expected;
  for (int32_t i = begin; i < end; ++i) expected[i] = 1;
  return expected;
}

std::vector<int64_t> order(const TokenStream& stream, int64_t epoch) {
  std::vector<int64_t> sequences;
  for (int64_t i = 0; i < stream.sequences_per_epoch(); ++i) {
    sequences.push_back(stream.sequence_at(epoch * stream.sequences_per_epoch() + i));
  }
  return sequences;
}

TEST_CASE("token_stream: an epoch has every target exactly once") {
  for (const int64_t tokens : {2, 3, 4, 5, 15, 16, 17, 18, 200, 1000}) {
    for (const int64_t length : {1, 4, 16, 33}) {
      const TokenCorpus corpus = numbered(tokens);
      TokenStream stream(corpus, options_of(length));
      for (int epoch = 0; epoch < 2; ++epoch) {
        std::map<int32_t, int> seen;
        for (int64_t i = 0; i < stream.sequences_per_epoch(); ++i) {
          CHECK(stream.epoch() == epoch);
          count_targets(stream.next(1), seen);
        }
        INFO(tokens << " tokens in sequences of " << length);
        CHECK((seen == once_each(1, static_cast<int32_t>(tokens))));
      }
    }
  }
}

TEST_CASE("token_stream: ranks and micro-batches share an epoch's targets without overlap") {
  const TokenCorpus corpus = numbered(12 * 5 * 7 + 1);  // 60 sequences of 7
  const int64_t global = 12;
  for (const int64_t ranks : {1, 2, 3}) {
    for (const int64_t micro : {1, 2, 4}) {
      std::map<int32_t, int> seen;
      for (int64_t rank = 0; rank < ranks; ++rank) {
        TokenStream stream(corpus, options_of(7));
        REQUIRE(stream.sequences_per_epoch() == 60);
        for (int64_t step = 0; step < 5; ++step) {
          stream.restore({step * global + rank * global / ranks});
          for (int64_t left = global / ranks; left > 0; left -= micro) {
            count_targets(stream.next(std::min(micro, left)), seen);
          }
        }
      }
      INFO(ranks << " ranks, micro-batch " << micro);
      CHECK((seen == once_each(1, 12 * 5 * 7 + 1)));
    }
  }
}

TEST_CASE("token_stream: the micro-batch does not change what comes") {
  const TokenCorpus corpus = numbered(500);
  TokenStream whole(corpus, options_of(8));
  TokenStream parts(corpus, options_of(8));
  for (int step = 0; step < 15; ++step) {  // over the edge of an epoch of 63
    const HostBatch batch = whole.next(6);
    std::vector<int32_t> targets;
    for (const int64_t part : {1, 2, 3}) {
      const HostBatch some = parts.next(part);
      targets.insert(targets.end(), some.targets.begin(), some.targets.end());
    }
    REQUIRE(targets == batch.targets);
    REQUIRE(parts.state().position == whole.state().position);
  }
}

TEST_CASE("token_stream: the order is a permutation that differs by epoch and by seed") {
  for (const int64_t count : {1, 2, 3, 7, 63, 64, 65, 255, 256, 257, 5000}) {
    const TokenCorpus corpus = numbered(count + 1);
    const TokenStream stream(corpus, options_of(1));
    const TokenStream other(corpus, options_of(1, 2));
    REQUIRE(stream.sequences_per_epoch() == count);
    std::set<std::vector<int64_t>> orders;
    for (int64_t epoch = 0; epoch < 4; ++epoch) {
      orders.insert(order(stream, epoch));
      orders.insert(order(other, epoch));
    }
    std::vector<int64_t> sorted(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) sorted[static_cast<size_t>(i)] = i;
    if (count > 50) CHECK(orders.count(sorted) == 0);  // shuffled at all
    if (count > 50) CHECK(orders.size() == 8);
    for (std::vector<int64_t> sequences : orders) {
      std::sort(sequences.begin(), sequences.end());
      CHECK(sequences == sorted);
    }
  }
}

TEST_CASE("token_stream: every sequence is as often at every place, over the epochs") {
  for (const int64_t count : {2, 3, 4, 5, 8}) {
    const TokenCorpus corpus = numbered(count + 1);
    const TokenStream stream(corpus, options_of(1));
    std::map<std::pair<int64_t, int64_t>, int64_t> times;
    for (int64_t position = 0; position < count * count * 1000; ++position) {
      ++times[{position % count, stream.sequence_at(position)}];
    }
    CHECK(static_cast<int64_t>(times.size()) == count * count);
    for (const auto& [place, seen] : times) {  // mean 1000, standard deviation at most 32
      CHECK(std::abs(seen - 1000) < 5 * 32);
    }
  }
}

TEST_CASE("token_stream: a small corpus comes in every order, over the epochs") {
  const TokenCorpus corpus = numbered(5);
  const TokenStream stream(corpus, options_of(1));
  std::set<std::vector<int64_t>> orders;
  for (int64_t epoch = 0; epoch < 500; ++epoch) orders.insert(order(stream, epoch));
  CHECK(orders.size() == 24);  // 4!
}

TEST_CASE("token_stream: in large epochs neighbours are not taken together") {
  const TokenCorpus corpus = numbered(20001);
  const TokenStream stream(corpus, options_of(1));
  const std::vector<int64_t> sequences = order(stream, 0);
  int neighbours = 0;
  int in_half = 0;
  for (size_t i = 1; i < sequences.size(); ++i) {
    neighbours += std::abs(sequences[i] - sequences[i - 1]) == 1;
    in_half += i < 10000 && sequences[i] < 10000;
  }
  CHECK(neighbours < 15);                    // 2 expected
  CHECK(std::abs(in_half - 5000) < 5 * 36);  // standard deviation 36
}

TEST_CASE("token_stream: restored, it goes on with the same batches") {
  const TokenCorpus corpus = numbered(300);
  const int64_t steps = 20;  // 5 sequences of 10 each, over epochs of 30
  TokenStream undisturbed(corpus, options_of(10));
  std::vector<HostBatch> batches;
  std::vector<StreamState> states;
  for (int64_t step = 0; step < steps; ++step) {
    states.push_back(undisturbed.state());
    batches.push_back(undisturbed.next(4));
  }
  CHECK(undisturbed.state().position == 4 * steps);
  CHECK(undisturbed.epoch() == 2);
  for (size_t from = 0; from < static_cast<size_t>(steps); ++from) {
    TokenStream fresh(corpus, options_of(10));
    fresh.next(3);  // has something prepared that restore must not let through
    fresh.restore(states[from]);
    for (size_t step = from; step < static_cast<size_t>(steps); ++step) {
      REQUIRE(equal(fresh.next(4), batches[step]));
    }
  }
  undisturbed.restore(states[3]);
  CHECK(equal(undisturbed.next(4), batches[3]));
  undisturbed.restore(states[3]);
  CHECK(undisturbed.next(2).sequences == 2);
}

TEST_CASE("token_stream: unshuffled sequences come in the corpus's order, once") {
  const TokenCorpus corpus = numbered(11);
  StreamOptions options = options_of(4);
  options.shuffled = false;
  TokenStream stream(corpus, options);
  REQUIRE(stream.sequences_per_epoch() == 3);
  const HostBatch first = stream.next(2);
  CHECK(first.tokens == std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(first.targets == std::vector<int32_t>{1, 2, 3, 4, 5, 6, 7, 8});
  const HostBatch last = stream.next(2);
  CHECK(last.sequences == 1);
  CHECK(last.tokens == std::vector<int32_t>{8, 9, 10, 0});
  CHECK(last.targets == std::vector<int32_t>{9, 10, -1, -1});
  CHECK(last.target_count == 2);
  for (int again = 0; again < 2; ++again) {
    const HostBatch none = stream.next(2);
    CHECK(none.sequences == 0);
    CHECK(none.tokens.empty());
    CHECK(none.target_count == 0);
  }
  stream.restore({1});
  CHECK(stream.next(1).tokens == std::vector<int32_t>{4, 5, 6, 7});
}

TEST_CASE("token_stream: an unshuffled epoch that divides evenly ends with an empty batch") {
  const TokenCorpus corpus = numbered(9);
  StreamOptions options = options_of(4);
  options.shuffled = false;
  TokenStream stream(corpus, options);
  CHECK(stream.next(2).sequences == 2);
  CHECK(stream.next(2).sequences == 0);
  CHECK(stream.state().position == 2);
}

TEST_CASE("token_stream: padded rows are documents, cut and filled up") {
  const TokenCorpus corpus = numbered(16, {0, 3, 8, 9, 15}, 99);  // 3, 5, 1, 6, 1 tokens
  StreamOptions options = options_of(4);
  options.packing = RowPacking::padded;
  options.shuffled = false;
  TokenStream stream(corpus, options);
  REQUIRE(stream.sequences_per_epoch() == 5);
  const HostBatch batch = stream.next(5);
  CHECK(batch.tokens == std::vector<int32_t>{0, 1,  2,  99, 3,  4,  5,  6, 8, 99, 99, 99,  //
                                             9, 10, 11, 12, 15, 99, 99, 99});
  CHECK(batch.targets == std::vector<int32_t>{1,  2,  -1, -1, 4,  5,  6,  7, -1, -1, -1, -1,  //
                                              10, 11, 12, 13, -1, -1, -1, -1});
  CHECK(batch.target_count == 10);
}

TEST_CASE("token_stream: over a padded epoch every target within the row length is seen once") {
  const TokenCorpus corpus = numbered(100, {0, 10, 11, 40, 70, 75}, 200);
  StreamOptions options = options_of(200);
  options.packing = RowPacking::padded;
  TokenStream stream(corpus, options);
  std::map<int32_t, int> seen;
  for (int i = 0; i < 3; ++i) count_targets(stream.next(2), seen);
  std::map<int32_t, int> expected = once_each(1, 100);
  for (const int32_t first : {10, 11, 40, 70, 75}) expected.erase(first);  // nothing before them
  CHECK((seen == expected));
}

TEST_CASE("token_stream: end-of-text is masked as a target, and only as that, where asked") {
  const TokenCorpus corpus = corpus_of({5, 9, 6, 9, 7}, {0, 2, 4}, 9);
  StreamOptions options = options_of(4);
  options.shuffled = false;
  const HostBatch plain = TokenStream(corpus, options).next(1);
  CHECK(plain.targets == std::vector<int32_t>{9, 6, 9, 7});
  CHECK(plain.target_count == 4);
  options.mask_eot_targets = true;
  const HostBatch masked = TokenStream(corpus, options).next(1);
  CHECK(masked.tokens == std::vector<int32_t>{5, 9, 6, 9});
  CHECK(masked.targets == std::vector<int32_t>{-1, 6, -1, 7});
  CHECK(masked.target_count == 2);
}

TEST_CASE("token_stream: unknown ends of documents are neither padded after nor masked") {
  const TokenCorpus unknown = numbered(20);
  const TokenCorpus known = numbered(20, {0}, 99);
  StreamOptions padded = options_of(4), masked = options_of(4);
  padded.packing = RowPacking::padded;
  masked.mask_eot_targets = true;
  for (const StreamOptions& options : {padded, masked}) {
    TokenStream(known, options).next(1);
    try {
      TokenStream(unknown, options);
      FAIL("no error");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::input);
      CHECK(std::string(error.what()).find("do not say where documents end") != std::string::npos);
    }
  }
  CHECK_NOTHROW(TokenStream(unknown, options_of(4)));
}

TEST_CASE("token_stream: two tokens are enough, fewer are an input error") {
  const TokenCorpus two = numbered(2);
  TokenStream stream(two, options_of(5));
  const HostBatch batch = stream.next(3);  // three epochs of one sequence
  CHECK(batch.target_count == 3);
  CHECK(batch.tokens == std::vector<int32_t>{0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0});
  CHECK(stream.epoch() == 3);
  for (const int64_t tokens : {0, 1}) {
    const TokenCorpus corpus = numbered(tokens);
    try {
      TokenStream(corpus, options_of(5));
      FAIL("no error");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::input);
    }
  }
}

TEST_CASE("token_stream: a batch that cannot be prepared is an exception and no lost position") {
  const TokenCorpus corpus = numbered(50);
  TokenStream stream(corpus, options_of(4));
  TokenStream undisturbed(corpus, options_of(4));
  stream.next(2);
  undisturbed.next(2);
  CHECK_THROWS(stream.next(int64_t{1} << 60));  // more than there is memory
  CHECK(stream.state().position == 2);
  CHECK_THROWS_AS(stream.next(0), Error);
  CHECK_THROWS_AS(stream.restore({-1}), Error);
  CHECK(equal(stream.next(2), undisturbed.next(2)));
}

}  // namespace
}  // namespace normlab
