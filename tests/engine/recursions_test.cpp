#include "engine/analysis/recursions.h"

#include <cmath>

#include "catch.h"

using namespace normlab;

namespace {

// σ²_l of layers 1 … count.
std::vector<double> layers(int64_t count, double (*variance)(double)) {
  std::vector<double> variances;
  for (int64_t layer = 1; layer <= count; ++layer) {
    variances.push_back(variance(static_cast<double>(layer)));
  }
  return variances;
}

}  // namespace

TEST_CASE("recursions: lemma 4.1 with c = 1 from 1 gives the layer's number") {
  const std::vector<double> variances = variances_by(Recursion::lns, 1, 1, 1, 500);
  REQUIRE(variances.size() == 500);
  for (size_t i = 0; i < variances.size(); ++i) {
    CHECK(variances[i] == Approx(static_cast<double>(i + 1)).epsilon(1e-12));
  }
  // And from any of them on.
  CHECK(variances_by(Recursion::lns, 1, 7, 7, 4).back() == Approx(10).epsilon(1e-12));
}

TEST_CASE("recursions: lemma 3.2 grows as the square of the depth") {
  CHECK(variances_by(Recursion::pre, 2, 9, 1, 2) == std::vector<double>{9, 15});
  const double last = variances_by(Recursion::pre, 1, 1, 1, 101).back();  // out of layer 100
  CHECK(last / 10000 == Approx(0.2502).epsilon(2e-4));
  CHECK(variances_by(Recursion::pre, -2, 1, 1, 3) == std::vector<double>{1, 0, 0});
}

TEST_CASE("recursions: the constant that made a series is found again") {
  for (const Recursion recursion : {Recursion::pre, Recursion::lns}) {
    for (const int64_t first : {1, 2}) {
      const std::vector<double> series = variances_by(recursion, 0.37, 2.5, first, 12);
      CHECK(fitted_constant(recursion, series, first) == Approx(0.37).epsilon(1e-12));
    }
  }
  // Least squares over the steps: 1 from σ = 1 and 6 from σ = 2, 2.6 each.
  CHECK(fitted_constant(Recursion::pre, {1, 4, 10}, 1) == Approx((3 * 1 + 6 * 2) / 5.0));
  CHECK(fitted_constant(Recursion::lns, {1, 4, 10}, 1) == Approx((3 * 1 + 6 * std::sqrt(2)) / 3.0));
  CHECK(fitted_constant(Recursion::pre, {1}, 1) == 0);
}

TEST_CASE("recursions: the products of theorems 3.3 and 4.2 are the known ones") {
  CHECK(gradient_bounds(Recursion::pre, {4, 16}, 3, 5) ==
        std::vector<double>{3.75, 3.75 * (1 + 3 / 4.0 + 5 / 16.0)});
  const auto exponential = layers(60, [](double l) { return std::exp(l); });
  CHECK(gradient_bounds(Recursion::pre, exponential, 1, 1).back() == Approx(5.3957).epsilon(1e-4));
  const auto power = layers(100000, [](double l) { return std::pow(l, 1.5); });
  CHECK(gradient_bounds(Recursion::lns, power, 1, 1).back() == Approx(8.22).epsilon(1e-3));
  const auto linear = layers(100000, [](double l) { return l; });
  CHECK(gradient_bounds(Recursion::lns, linear, 1, 1).back() == Approx(16.0).epsilon(5e-3));
}
