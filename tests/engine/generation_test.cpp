#include "engine/generation.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "catch.h"
#include "small_model.h"

using namespace normlab;
using namespace normlab::test;

namespace {

// Shares of the tokens over evenly spread uniform numbers.
std::map<int32_t, double> shares(const std::vector<float>& logits, const SamplingOptions& options) {
  constexpr int kDraws = 20'000;
  std::map<int32_t, double> found;
  for (int draw = 0; draw < kDraws; ++draw) {
    found[sample(logits, options, (draw + 0.5) / kDraws)] += 1.0 / kDraws;
  }
  return found;
}

std::vector<int32_t> generated(Model& model, const std::vector<int32_t>& prompt,
                               const SamplingOptions& options) {
  std::vector<int32_t> tokens;
  generate(model, prompt, options, [&](int32_t token) { tokens.push_back(token); });
  return tokens;
}

int32_t likeliest(const std::vector<float>& logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

TEST_CASE("sample: tokens come as often as the softmax says, also far from 0") {
  for (const float offset : {0.0f, 500.0f, -500.0f}) {
    const std::vector<float> logits = {std::log(0.1f) + offset, std::log(0.6f) + offset,
                                       std::log(0.3f) + offset};
    auto found = shares(logits, {});
    CHECK(found[0] == Approx(0.1).margin(2e-4));
    CHECK(found[1] == Approx(0.6).margin(2e-4));
    CHECK(found[2] == Approx(0.3).margin(2e-4));
  }
}

TEST_CASE("sample: a temperature of 2 takes the root of the odds") {
  auto found = shares({std::log(1.0f), std::log(16.0f)}, {.temperature = 2});
  CHECK(found[1] == Approx(0.8).margin(2e-4));
}

TEST_CASE("sample: top_k leaves the k likeliest in their proportion and ties to the smaller id") {
  auto found = shares({0.0f, std::log(3.0f), -1.0f, 0.0f}, {.top_k = 2});
  CHECK(found.size() == 2);
  CHECK(found[0] == Approx(0.25).margin(2e-4));
  CHECK(found[1] == Approx(0.75).margin(2e-4));
  CHECK(shares({1, 2, 2, 2}, {.top_k = 1}).size() == 1);
  CHECK(shares({1, 2, 2, 2}, {.top_k = 1}).contains(1));
  CHECK(shares({1, 2, 3}, {.top_k = 9}).size() == 3);
}

TEST_CASE("sample: without temperature the likeliest, of equals the first") {
  CHECK(sample({1, 5, 5, 0}, {.temperature = 0}, 0.99) == 1);
  CHECK(sample({1, 5, 7, 0}, {.temperature = 0}, 0.0) == 2);
}

TEST_CASE("sample: rows that only pad the vocabulary are never taken") {
  SamplingOptions options;
  options.vocabulary = 2;
  for (const double temperature : {0.0, 1.0}) {
    options.temperature = temperature;
    CHECK(sample({1, 2, 9, 9}, options, 0.999) == 1);
  }
  options.top_k = 3;
  CHECK(sample({2, 1, 9, 9}, options, 0) == 0);
  options.vocabulary = 9;
  CHECK(sample({1, 2, 9, 9}, options, 0.999) == 3);
}

TEST_CASE("sample: the largest uniform number below 1 gives a token") {
  CHECK(sample({0, 0, 0}, {}, std::nextafter(1.0, 0.0)) == 2);
  CHECK(sample({0, 0, -1000}, {}, std::nextafter(1.0, 0.0)) <= 2);
}

TEST_CASE("generate: without temperature it is a repeated full forward pass") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    SmallModel small(small_config(family));
    std::vector<int32_t> text = {3, 14, 7};
    const std::vector<int32_t> tokens =
        generated(small.model, text, {.tokens = 9, .temperature = 0});
    REQUIRE(tokens.size() == 9);
    for (const int32_t token : tokens) {
      CHECK(token == likeliest(small.logits(text)));
      text.push_back(token);
    }
    CHECK(tokens == generated(small.model, {3, 14, 7}, {.tokens = 9, .top_k = 1, .seed = 5}));
  }
}

TEST_CASE("generate: beyond the context the older half is forgotten") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    SmallModel small(small_config(family));
    const std::vector<int32_t> tokens =
        generated(small.model, {3, 14, 7}, {.tokens = 30, .temperature = 0});
    REQUIRE(tokens.size() == 30);
    // The context of 12 is full with the prompt and 9 tokens: the next follows from the last 12,
    // and the one after it from 6.
    std::vector<int32_t> text = {3, 14, 7};
    text.insert(text.end(), tokens.begin(), tokens.begin() + 10);
    CHECK(tokens[9] == likeliest(small.logits({text.begin(), text.begin() + 12})));
    CHECK(tokens[10] == likeliest(small.logits({text.end() - 6, text.end()})));
  }
}

TEST_CASE("generate: of a prompt longer than the context the end is read") {
  SmallModel small(small_config(Family::gpt2));
  std::vector<int32_t> prompt;
  for (int32_t token = 0; token < 17; ++token) prompt.push_back(token);
  const auto tokens = generated(small.model, prompt, {.tokens = 1, .temperature = 0});
  CHECK(tokens == std::vector<int32_t>{likeliest(small.logits({prompt.end() - 12, prompt.end()}))});
}

TEST_CASE("generate: a seed decides the tokens, the end of text ends them, a request too") {
  SmallModel small(small_config(Family::gpt2));
  const auto with = [&](const SamplingOptions& options) {
    return generated(small.model, {1}, options);
  };
  CHECK(with({.tokens = 40, .seed = 1}) == with({.tokens = 40, .seed = 1}));
  const auto all = with({.tokens = 40, .seed = 1});
  CHECK(all != with({.tokens = 40, .seed = 2}));
  const int32_t end = all[5];
  const auto cut = with({.tokens = 40, .seed = 1, .end_of_text = end});
  CHECK(cut == std::vector<int32_t>(all.begin(), std::find(all.begin(), all.end(), end)));
  std::vector<int32_t> none;
  generate(
      small.model, {1}, {}, [&](int32_t token) { none.push_back(token); }, [] { return true; });
  CHECK(none.empty());
}
