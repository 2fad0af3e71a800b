#include <cmath>

#include "catch.h"
#include "tests/op_check.h"

namespace normlab {
namespace {

TEST_CASE("dropout: equals the loop in double") { check_equals_reference(dropout_cases()); }

TEST_CASE("dropout backward: equals finite differences in double") {
  check_equals_finite_differences(dropout_cases());
}

TEST_CASE("dropout: one thread and two give the same bits") {
  check_threads_give_same_bits(dropout_cases());
}

// The dropout of ones, from `first_sequence` on.
std::vector<double> dropped_ones(int64_t batch, int64_t first_sequence, const Dropout& dropout,
                                 uint64_t step = 3) {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 2);
  HostTensors tensors;
  tensors.updated("x", batch * 50, 201).values.assign(static_cast<size_t>(batch * 50 * 201), 1);
  const DeviceTensors t(*ops, tensors);
  ops->set_step_state({.seed = 1, .step = step, .first_sequence = first_sequence});
  ops->dropout(t["x"], t["x"], batch, dropout);
  t.download(tensors);
  return tensors["x"].values;
}

TEST_CASE("dropout: keeps a share of 1 - p, scaled by 1/(1 - p)") {
  for (const double probability : {0.1, 0.5, 0.9}) {
    const std::vector<double> y = dropped_ones(4, 0, {probability, 2});
    double kept = 0;
    for (const double value : y) {
      if (value == 0) continue;
      CHECK(value == Approx(1 / (1 - probability)).epsilon(1e-6));
      ++kept;
    }
    const auto count = static_cast<double>(y.size());
    // Five deviations of a binomial share.
    const double deviation = std::sqrt(probability * (1 - probability) / count);
    CHECK(std::fabs(kept / count - (1 - probability)) < 5 * deviation);
  }
}

TEST_CASE("dropout: a sequence has one mask in whatever micro-batch it comes") {
  const std::vector<double> together = dropped_ones(4, 6, {0.5, 2});
  std::vector<double> apart;
  for (const auto& [first, count] : {std::pair{6, 1}, {7, 3}}) {
    const std::vector<double> part = dropped_ones(count, first, {0.5, 2});
    apart.insert(apart.end(), part.begin(), part.end());
  }
  CHECK(apart == together);
}

TEST_CASE("dropout: steps, sequences and tensors have different masks") {
  const std::vector<double> mask = dropped_ones(1, 0, {0.5, 2});
  CHECK(dropped_ones(1, 0, {0.5, 2}) == mask);
  CHECK(dropped_ones(1, 1, {0.5, 2}) != mask);
  CHECK(dropped_ones(1, 0, {0.5, 3}) != mask);
  CHECK(dropped_ones(1, 0, {0.5, 2}, 4) != mask);
}

}  // namespace
}  // namespace normlab
