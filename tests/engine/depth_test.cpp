// Depth of small models whose answer is known by other means than a pass of theirs.
#include "engine/analysis/depth.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "catch.h"
#include "engine/analysis/depth_page.h"
#include "engine/analysis/depth_report.h"
#include "kernels/numbers.h"
#include "small_model.h"

using namespace normlab;
using namespace normlab::test;

namespace {

TokenCorpus corpus_of(int64_t tokens) {
  CorpusDescription description;
  description.vocabulary = 19;
  std::vector<uint16_t> ids;
  for (int64_t i = 0; i < tokens; ++i) ids.push_back(static_cast<uint16_t>(i * i % 19));
  return {description, ids, {0}};
}

void set(SmallModel& model, const std::string& name, double value) {
  const int index = find_parameter(model.model.parameters(), name);
  const Tensor tensor = model.model.parameters()[static_cast<size_t>(index)].value;
  upload_numbers(*model.ops, tensor,
                 std::vector<double>(static_cast<size_t>(tensor.elements()), value));
}

std::vector<double> numbers(SmallModel& model, const std::string& name) {
  const int index = find_parameter(model.model.parameters(), name);
  return download_numbers(*model.ops, model.model.parameters()[static_cast<size_t>(index)].value);
}

DepthResult measured(SmallModel& model, const JacobianOptions& jacobian = {0, 1},
                     int64_t tokens = 40) {
  DepthOptions options;
  options.tokens_per_sequence = 10;
  options.batch = 2;
  options.jacobian = jacobian;
  return measure_depth(model.model, corpus_of(tokens), options);
}

// W·u (rows) of a matrix of so many rows.
std::vector<double> product(const std::vector<double>& matrix, size_t rows,
                            const std::vector<double>& u) {
  std::vector<double> out(rows);
  for (size_t row = 0; row < rows; ++row) {
    for (size_t i = 0; i < u.size(); ++i) out[row] += matrix[row * u.size() + i] * u[i];
  }
  return out;
}

double squares(const std::vector<double>& x) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  return sum;
}

}  // namespace

TEST_CASE("stream statistics: variance and angle of rows by hand") {
  CHECK(population_variance(std::vector<double>{1, 2, 3, 6}) == 3.5);
  CHECK(angular_distance(0, 1, 1) == Approx(0.5));
  CHECK(angular_distance(-6, 2, 3) == Approx(1));
  CHECK(angular_distance(3, 2, 3) == Approx(std::acos(0.5) / std::numbers::pi));
  // A cosine that rounding put above 1, and a stream of zeros.
  CHECK(angular_distance(1 + 1e-9, 1, 1) == 0);
  CHECK(angular_distance(0, 0, 1) == 0.5);
}

TEST_CASE("stream statistics: the reference's rows are those of its rule") {
  // States of two numbers at these angles, in units of π; the last is after the final norm.
  std::vector<std::vector<double>> rows;
  for (const double angle : {0.0, 0.1, 0.3, 0.35, 0.9, 0.75}) {
    rows.push_back(
        {3 * std::cos(std::numbers::pi * angle), 3 * std::sin(std::numbers::pi * angle)});
  }
  ReferenceDistances reference(4);
  reference.add({rows.begin(), rows.end() - 1}, rows.back());
  // By numpy, of [.1, .2, .05, .4], [.3, .25, .45, 0] and [.35, .65, 0, 0].
  const std::vector<std::vector<double>> expected = {
      {0.141605839416, 0.433576642336, 0}, {0.667808219178, 0.553652968037}, {0.546021840874}};
  const std::vector<std::vector<double>> found = reference.rows();
  REQUIRE(found.size() == expected.size());
  for (size_t n = 0; n < found.size(); ++n) {
    REQUIRE(found[n].size() == expected[n].size());
    for (size_t layer = 0; layer < found[n].size(); ++layer) {
      CHECK(found[n][layer] == Approx(expected[n][layer]).margin(1e-9));
    }
  }
}

TEST_CASE("depth: filling has no part in any measure") {
  SmallModel model(small_config(Family::gpt2), Purpose::inference, 1, Precision::fp64);
  const TokenCorpus corpus = corpus_of(6);
  DepthOptions options;
  options.tokens_per_sequence = 6;
  const DepthResult whole = measure_depth(model.model, corpus, options);
  options.tokens_per_sequence = 10;
  const DepthResult filled = measure_depth(model.model, corpus, options);
  CHECK(filled.tokens == 6);
  for (size_t layer = 0; layer < 2; ++layer) {
    CHECK(filled.variances[layer] == Approx(whole.variances[layer]).epsilon(1e-12));
    CHECK(filled.distances[layer][0] == Approx(whole.distances[layer][0]).epsilon(1e-12));
    CHECK(filled.loss_without[layer] == Approx(whole.loss_without[layer]).epsilon(1e-12));
    CHECK(filled.jacobian[layer].whole == Approx(whole.jacobian[layer].whole).epsilon(1e-8));
    CHECK(filled.jacobian[layer].token_mean ==
          Approx(whole.jacobian[layer].token_mean).epsilon(1e-8));
  }
}

TEST_CASE("depth: layers that add nothing are the identity in every measure") {
  const Family family = GENERATE(Family::gpt2, Family::llama);
  const Precision precision = GENERATE(Precision::fp32, Precision::fp64);
  SmallModel model(small_config(family), Purpose::inference, 2, precision);
  for (const std::string layer : {"layers.0.", "layers.1."}) {
    set(model, layer + "attention.out.weight", 0);
    set(model, layer + "mlp.out.weight", 0);
  }
  const DepthResult result = measured(model, {3, 1});
  for (size_t layer = 0; layer < 2; ++layer) {
    CHECK(result.variances[layer + 1] == Approx(result.variances[0]));
    CHECK(result.distances[layer][0] < 1e-7);
    CHECK(result.loss_without[layer] == Approx(result.loss));
    const double bound = precision == Precision::fp64 ? 1e-9 : 1e-4;
    CHECK(result.jacobian[layer].whole < bound);
    CHECK(result.jacobian[layer].token_mean < bound);
  }
}

// Without norms, and with a bias so large that GELU passes its input on, x + W₂·(W₁·x + b₁) is
// linear: J − I = W₂·W₁ for every token.
TEST_CASE("depth: the Jacobian of a linear layer is the product of its weights") {
  ModelConfig config = small_config(Family::gpt2);
  config.norm.placement = NormPlacement::none;
  SmallModel model(config, Purpose::inference, 2, Precision::fp64);
  for (const std::string layer : {"0", "1"}) {
    set(model, "layers." + layer + ".attention.out.weight", 0);
    // The second layer's input is thousands already.
    set(model, "layers." + layer + ".mlp.in.bias", layer == "0" ? 1e3 : 1e6);
  }
  const JacobianOptions options{5, 17};
  const DepthResult result = measured(model, options);
  for (int64_t layer = 0; layer < 2; ++layer) {
    const std::string name = "layers." + std::to_string(layer) + ".mlp.";
    double expected = 0;
    for (int64_t number = 0; number < options.projections; ++number) {
      const auto u = random_direction(options.seed, layer, number, config.width);
      CHECK(squares(u) == Approx(1));
      const auto inner = product(numbers(model, name + "in.weight"), 64, u);
      expected += squares(product(numbers(model, name + "out.weight"), 16, inner)) / 5;
    }
    CHECK(result.jacobian[static_cast<size_t>(layer)].token_mean ==
          Approx(std::sqrt(expected)).epsilon(1e-8));
    CHECK(result.jacobian[static_cast<size_t>(layer)].whole ==
          Approx(std::sqrt(expected)).epsilon(1e-8));
  }
}

TEST_CASE("depth: a model that is built without a layer has the loss without it") {
  ModelConfig config = small_config(GENERATE(Family::gpt2, Family::llama));
  config.layers = 3;
  config.norm.placement = GENERATE(NormPlacement::pre, NormPlacement::post);
  SmallModel model(config, Purpose::inference, 2, Precision::fp64);
  const DepthResult result = measured(model);
  config.layers = 2;
  SmallModel shorter(config, Purpose::inference, 2, Precision::fp64);
  for (int64_t removed = 0; removed < 3; ++removed) {
    CAPTURE(removed);
    for (const Parameter& parameter : shorter.model.parameters()) {
      std::string name = parameter.name;
      if (parameter.layer >= removed) {
        const std::string own = "layers." + std::to_string(parameter.layer) + ".";
        name = "layers." + std::to_string(parameter.layer + 1) + "." + name.substr(own.size());
      }
      upload_numbers(*shorter.ops, parameter.value, numbers(model, name));
    }
    const double expected = measured(shorter).loss;
    CHECK(result.loss_without[static_cast<size_t>(removed)] == Approx(expected).epsilon(1e-12));
    CHECK(std::abs(expected - result.loss) > 1e-4);
  }
}

TEST_CASE("depth: layers of LayerNorm Scaling keep their scales where another is left out") {
  ModelConfig config = small_config(Family::llama);
  config.layers = 3;
  config.norm.placement = NormPlacement::lns;
  SmallModel model(config, Purpose::inference, 2, Precision::fp64);
  const DepthResult result = measured(model);
  // Without layer 1, as a model of Pre-LN whose gains hold 1/√1 and 1/√3.
  config.layers = 2;
  config.norm.placement = NormPlacement::pre;
  SmallModel folded(config, Purpose::inference, 2, Precision::fp64);
  for (const Parameter& parameter : folded.model.parameters()) {
    std::string name = parameter.name;
    if (parameter.layer == 1) name = "layers.2." + name.substr(std::string("layers.1.").size());
    std::vector<double> values = numbers(model, name);
    if (parameter.layer == 1 && name.ends_with("norm.gain")) {
      for (double& gain : values) gain /= std::sqrt(3);
    }
    upload_numbers(*folded.ops, parameter.value, values);
  }
  CHECK(result.loss_without[1] == Approx(measured(folded).loss).epsilon(1e-12));
}

TEST_CASE("depth: a model that is not finite is measured and drawn, not crashed on") {
  SmallModel model(small_config(Family::llama));
  set(model, "layers.1.mlp.out.weight", std::nan(""));
  const DepthResult result = measured(model, {2, 1});
  CHECK(std::isnan(result.loss));
  CHECK(std::isfinite(result.loss_without[1]));
  CHECK(std::isnan(result.loss_without[0]));
  CHECK(std::isfinite(result.variances[1]));
  CHECK(std::isnan(result.variances[2]));
  CHECK(std::isnan(result.reference_distances[0][0]));
  const DepthReport report{"m", model.model.config(), "CPU", "fp32", 10, {2, 1}, result};
  CHECK(to_json(report).at("loss").is_null());
  CHECK(html(report).find("\"nan\"") == std::string::npos);
}

TEST_CASE("depth: directions and signs are random and functions of their place alone") {
  double sum = 0, mean = 0;
  for (int64_t number = 0; number < 200; ++number) {
    const auto u = random_direction(3, 1, number, 50);
    sum += u[7] * u[7];
    mean += u[7] / 200;
    CHECK(random_direction(3, 1, number, 50) == u);
    CHECK(random_direction(3, 2, number, 50) != u);
    CHECK(random_direction(4, 1, number, 50) != u);
  }
  CHECK(sum / 200 == Approx(1.0 / 50).epsilon(0.35));
  CHECK(std::abs(mean) < 0.04);
  double signs = 0, other = 0;
  for (int64_t token = 0; token < 1000; ++token) {
    signs += random_sign(3, 0, 5, token);
    other += random_sign(3, 0, 5, token) * random_sign(3, 0, 6, token);
  }
  CHECK(std::abs(signs) < 120);
  CHECK(std::abs(other) < 120);
}

TEST_CASE("depth: batches change no number, and most_tokens ends the measurement") {
  SmallModel model(small_config(Family::llama), Purpose::inference, 4, Precision::fp64);
  DepthOptions options;
  options.tokens_per_sequence = 10;
  options.batch = 1;
  const TokenCorpus corpus = corpus_of(47);
  const DepthResult one = measure_depth(model.model, corpus, options);
  options.batch = 3;
  std::vector<double> shares;
  options.progress = [&](double share) { shares.push_back(share); };
  const DepthResult three = measure_depth(model.model, corpus, options);
  CHECK(one.tokens == 47);
  for (size_t layer = 0; layer < 2; ++layer) {
    CHECK(one.variances[layer + 1] == Approx(three.variances[layer + 1]).epsilon(1e-12));
    CHECK(one.distances[layer][0] == Approx(three.distances[layer][0]).epsilon(1e-12));
    CHECK(one.loss_without[layer] == Approx(three.loss_without[layer]).epsilon(1e-12));
  }
  // The step is the batch's own.
  CHECK(one.jacobian[1].whole == Approx(three.jacobian[1].whole).epsilon(1e-6));
  CHECK(std::is_sorted(shares.begin(), shares.end()));
  CHECK(shares.back() == 1);
  options.most_tokens = 31;
  options.jacobian_tokens = 1;
  const DepthResult some = measure_depth(model.model, corpus, options);
  CHECK(some.tokens == 47);  // to the end of a batch
  CHECK(some.jacobian_tokens == 30);
  options.most_tokens = 30;
  CHECK(measure_depth(model.model, corpus, options).tokens == 30);
}

TEST_CASE("depth: a Jacobian in bf16 is refused, all else is measured") {
  SmallModel model(small_config(Family::gpt2), Purpose::inference, 2, Precision::bf16);
  CHECK_THROWS_AS(measured(model, {1, 1}), Error);
  SmallModel exact(small_config(Family::gpt2));
  CHECK(measured(model).loss == Approx(measured(exact).loss).epsilon(0.02));
}
