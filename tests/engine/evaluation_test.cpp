#include "engine/evaluation.h"

#include <cmath>
#include <limits>

#include "catch.h"
#include "small_model.h"

using namespace normlab;
using namespace normlab::test;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

// Three documents of 5, 9 and 2 tokens, each with an end.
TokenCorpus small_corpus() {
  CorpusDescription description;
  description.vocabulary = 19;
  description.end_of_text = 18;
  return {description, {1, 2, 3, 4, 18, 5, 6, 7, 8, 9, 10, 11, 12, 18, 13, 18}, {0, 5, 14}};
}

// Mean loss of predicting tokens [first, last) of the corpus, each from all since `from`.
double mean_loss(SmallModel& model, const TokenCorpus& corpus, size_t from, size_t first,
                 size_t last) {
  double sum = 0;
  std::vector<uint16_t> tokens(static_cast<size_t>(corpus.size()));
  corpus.copy(0, tokens);
  for (size_t target = first; target < last; ++target) {
    const auto begin = tokens.begin() + static_cast<ptrdiff_t>(from);
    const std::vector<float> logits =
        model.logits({begin, tokens.begin() + static_cast<ptrdiff_t>(target)});
    double total = 0;
    for (const float logit : logits) total += std::exp(double(logit));
    sum += std::log(total) - double(logits[tokens[target]]);
  }
  return sum / static_cast<double>(last - first);
}

}  // namespace

TEST_CASE("summarize: percentiles interpolate linearly as numpy's do") {
  // numpy.percentile([4, 1, 3, 2], [50, 2.5, 97.5, 0.1, 99.9]).
  const EvaluationResult four = summarize({4, 1, 3, 2});
  CHECK(four.loss == 2.5);
  CHECK(four.perplexity == Approx(std::exp(2.5)));
  CHECK(four.median == 2.5);
  CHECK(four.range_95[0] == Approx(1.075));
  CHECK(four.range_95[1] == Approx(3.925));
  CHECK(four.range_99_9[0] == Approx(1.003));
  CHECK(four.range_99_9[1] == Approx(3.997));
  CHECK(four.tokens == 4);
  CHECK(summarize({7}).range_99_9[1] == 7);
  CHECK(summarize({1, 5, 2}).median == 2);
}

TEST_CASE("summarize: without losses there is nothing and no failure") {
  CHECK(summarize({}).tokens == 0);
  CHECK(summarize({}).loss == 0);
}

TEST_CASE("summarize: NaN and infinity count as largest and spoil only what they touch") {
  const EvaluationResult one = summarize({not_a_number, 2, 1});
  CHECK(std::isnan(one.loss));
  CHECK(std::isnan(one.perplexity));
  CHECK(one.median == 2);
  CHECK(std::isnan(one.range_99_9[1]));
  CHECK(one.range_95[0] == Approx(1.05));
  CHECK(summarize({infinity, 2, 1}).median == 2);
  CHECK(summarize({1, 2, infinity}).loss == infinity);
}

TEST_CASE("evaluate: the loss is that of every token but the first, by windows") {
  SmallModel model(small_config(Family::gpt2));
  const TokenCorpus corpus = small_corpus();
  const EvaluationResult result = evaluate(model.model, corpus, {.tokens_per_sequence = 6});
  CHECK(result.tokens == 15);
  const double expected =
      (6 * mean_loss(model, corpus, 0, 1, 7) + 6 * mean_loss(model, corpus, 6, 7, 13) +
       3 * mean_loss(model, corpus, 12, 13, 16)) /
      15;
  CHECK(result.loss == Approx(expected).epsilon(1e-5));
  // Passes of two sequences, the last one not full.
  CHECK(evaluate(model.model, corpus, {.tokens_per_sequence = 6, .batch = 2}).loss ==
        Approx(expected).epsilon(1e-5));
}

TEST_CASE("evaluate: the worst documents are those of the largest mean, the worst first") {
  SmallModel model(small_config(Family::gpt2));
  const TokenCorpus corpus = small_corpus();
  for (const RowPacking packing : {RowPacking::concatenated, RowPacking::padded}) {
    const bool padded = packing == RowPacking::padded;
    INFO((padded ? "padded" : "concatenated"));
    const EvaluationResult result =
        evaluate(model.model, corpus, {.tokens_per_sequence = 8, .packing = packing});
    REQUIRE(result.worst_documents.size() == 3);
    double previous = infinity, sum = 0;
    int64_t tokens = 0;
    for (const DocumentLoss& document : result.worst_documents) {
      CHECK(document.loss <= previous);
      previous = document.loss;
      sum += document.loss * static_cast<double>(document.tokens);
      tokens += document.tokens;
      // By whom a target belongs: the first token of a document is one, where documents are joined.
      const std::vector<int64_t> counts =
          padded ? std::vector<int64_t>{4, 8, 1} : std::vector<int64_t>{4, 9, 2};
      CHECK(document.tokens == counts[static_cast<size_t>(document.document)]);
      if (document.document == 0) {
        CHECK(document.loss == Approx(mean_loss(model, corpus, 0, 1, 5)).epsilon(1e-5));
      }
    }
    CHECK(sum / static_cast<double>(tokens) == Approx(result.loss));
    CHECK(tokens == result.tokens);
  }
}

TEST_CASE("evaluate: stops after enough tokens or on request") {
  SmallModel model(small_config(Family::gpt2));
  const TokenCorpus corpus = small_corpus();
  const EvaluationResult part =
      evaluate(model.model, corpus, {.tokens_per_sequence = 4, .most_tokens = 5});
  CHECK(part.tokens == 8);
  CHECK(!part.stopped);
  const EvaluationResult stopped =
      evaluate(model.model, corpus, {.tokens_per_sequence = 4, .should_stop = [] { return true; }});
  CHECK(stopped.stopped);
}

TEST_CASE("evaluate: masked ends of text are not scored") {
  SmallModel model(small_config(Family::gpt2));
  const EvaluationResult result =
      evaluate(model.model, small_corpus(), {.tokens_per_sequence = 6, .mask_eot_targets = true});
  CHECK(result.tokens == 12);
}

TEST_CASE("evaluate: the reference's perplexity weighs batches equally and divides by one more") {
  SmallModel model(small_config(Family::gpt2));
  const auto rows = [&](int64_t batch, int64_t reference_batch, int64_t most_tokens) {
    EvaluationOptions options{.tokens_per_sequence = 8, .batch = batch, .most_tokens = most_tokens};
    options.packing = RowPacking::padded;
    options.reference_batch = reference_batch;
    return evaluate(model.model, small_corpus(), options);
  };
  // Documents of 4, 8 and 1 targets.
  std::vector<double> means(3);
  for (const DocumentLoss& document : rows(1, 0, 0).worst_documents) {
    means[static_cast<size_t>(document.document)] = document.loss;
  }
  const double first_two = (4 * means[0] + 8 * means[1]) / 12;
  for (const int64_t batch : {1, 2}) {
    INFO(batch);
    CHECK(!rows(batch, 0, 0).reference_perplexity);
    const double one_by_one = std::exp((means[0] + means[1] + means[2]) / 4);
    CHECK(rows(batch, 1, 0).reference_perplexity.value() == Approx(one_by_one).epsilon(1e-6));
    const double two_by_two = std::exp((first_two + means[2]) / 3);
    CHECK(rows(batch, 2, 0).reference_perplexity.value() == Approx(two_by_two).epsilon(1e-6));
    CHECK(rows(batch, 2, 0).loss == Approx(rows(1, 0, 0).loss).epsilon(1e-6));
    // It ends where one of its batches does.
    CHECK(rows(batch, 1, 1).tokens == 4);
    const EvaluationResult part = rows(batch, 2, 1);
    CHECK(part.tokens == 12);
    CHECK(part.reference_perplexity.value() == Approx(std::exp(first_two / 2)).epsilon(1e-6));
  }
}
