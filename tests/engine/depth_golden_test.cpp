// Depth of the golden models against PyTorch (tests/golden/make_depth.py).
#include <algorithm>
#include <cmath>

#include "catch.h"
#include "engine/analysis/depth.h"
#include "golden_depth.h"

using namespace normlab;
using namespace normlab::test;
using nlohmann::json;

namespace {

DepthResult measured(const GoldenDepth& golden, Precision precision, int64_t batch,
                     const JacobianOptions& jacobian) {
  const auto ops = make_ops(Device::cpu, precision, 1);
  const int64_t length = golden.length();
  Model model(*ops, read_config_json(golden.directory).config, {batch, length, Purpose::inference});
  load_weights(model, golden.directory);
  DepthOptions options;
  options.tokens_per_sequence = length;
  options.batch = batch;
  options.jacobian = jacobian;
  options.jacobian_tokens = 4 * length;
  return measure_depth(model, golden.corpus, options);
}

// Largest difference as a share of the largest number expected.
double error(const std::vector<double>& actual, const std::vector<double>& expected) {
  REQUIRE(actual.size() == expected.size());
  double worst = 0, largest = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    worst = std::max(worst, std::abs(actual[i] - expected[i]));
    largest = std::max(largest, std::abs(expected[i]));
  }
  return worst / largest;
}

double error(const std::vector<std::vector<double>>& actual,
             const std::vector<std::vector<double>>& expected) {
  REQUIRE(actual.size() == expected.size());
  double worst = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    worst = std::max(worst, error(actual[i], expected[i]));
  }
  return worst;
}

}  // namespace

TEST_CASE("depth: variances, angles and losses without a layer are PyTorch's") {
  const GoldenDepth golden(GENERATE("gpt2", "llama"));
  const Precision precision = GENERATE(Precision::fp64, Precision::fp32);
  // The last window is partly filling; the last batch of 4 holds one.
  const int64_t batch = GENERATE(1, 4);
  CAPTURE(golden.directory, static_cast<int>(precision), batch);
  const double bound = precision == Precision::fp64 ? 1e-9 : 2e-6;
  const DepthResult result = measured(golden, precision, batch, {0, 1});
  const json& expected = golden.expected;
  CHECK(result.sequences == expected.at("sequences"));
  CHECK(result.tokens == expected.at("tokens"));
  CHECK(result.targets == expected.at("targets"));
  CHECK(error(result.variances, expected.at("variances")) < bound);
  CHECK(error(result.distances, expected.at("distances")) < bound);
  CHECK(error(result.reference_distances, expected.at("reference_distances")) < 20 * bound);
  CHECK(result.loss == Approx(expected.at("loss").get<double>()).epsilon(bound));
  CHECK(error(result.loss_without, expected.at("loss_without")) < bound);
  CHECK(result.jacobian.empty());
}

TEST_CASE("depth: distances of Jacobians from the identity are those of autograd's Jacobians") {
  const GoldenDepth golden(GENERATE("gpt2", "llama"));
  const Precision precision = GENERATE(Precision::fp64, Precision::fp32);
  CAPTURE(golden.directory, static_cast<int>(precision));
  const DepthResult result = measured(golden, precision, 4, {64, 3});
  const json& expected = golden.expected.at("jacobian");
  REQUIRE(result.jacobian.size() == expected.size());
  CHECK(result.jacobian_tokens == 100);
  for (size_t layer = 0; layer < expected.size(); ++layer) {
    CAPTURE(layer);
    const double whole = expected[layer].at("whole"), mean = expected[layer].at("token_mean");
    CHECK(result.jacobian[layer].whole == Approx(whole).epsilon(0.1));
    // Its square is overestimated by whole²/N at most.
    CHECK(result.jacobian[layer].token_mean > 0.9 * mean);
    CHECK(result.jacobian[layer].token_mean < 1.1 * std::sqrt(mean * mean + whole * whole / 100));
  }
}
