#include "kernels/formula.h"

#include <bit>
#include <cmath>
#include <limits>

#include "catch.h"

namespace normlab {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNan = std::numeric_limits<float>::quiet_NaN();

// Distance in units of the last place of the float next to `wanted`.
double ulps(float found, double wanted) {
  const float nearest = static_cast<float>(wanted);
  const float next = std::nextafter(std::fabs(nearest), kInfinity);
  const double unit = static_cast<double>(next) - static_cast<double>(std::fabs(nearest));
  return std::fabs(static_cast<double>(found) - wanted) / unit;
}

// The largest distance over all floats of [first, last] (of one sign) with this step in bits.
template <typename Found, typename Wanted>
double worst_ulps(float first, float last, uint32_t step, Found found, Wanted wanted) {
  double worst = 0;
  const auto end = std::bit_cast<uint32_t>(last);
  for (auto bits = std::bit_cast<uint32_t>(first); bits <= end; bits += step) {
    const float x = std::bit_cast<float>(bits);
    worst = std::max(worst, ulps(found(x), wanted(static_cast<double>(x))));
  }
  return worst;
}

constexpr uint32_t kStep = 1013;

TEST_CASE("exponential: is within 2 ulp of std::exp on [-87, 88]") {
  const auto found = [](float x) { return exponential(x); };
  const auto wanted = [](double x) { return std::exp(x); };
  CHECK(worst_ulps(1e-30f, 88, kStep, found, wanted) < 2);
  CHECK(worst_ulps(-1e-30f, -87, kStep, found, wanted) < 2);
}

TEST_CASE("exponential: ends in 0 and infinity, and no number stays no number") {
  CHECK(exponential(0.0f) == 1);
  CHECK(exponential(-0.0f) == 1);
  CHECK(exponential(-87.31f) == 0);
  CHECK(exponential(-kInfinity) == 0);
  CHECK(exponential(89.0f) == kInfinity);
  CHECK(exponential(kInfinity) == kInfinity);
  CHECK(std::isnan(exponential(kNan)));
  CHECK(std::isnan(exponential(std::nan(""))));
}

TEST_CASE("gelu: float is within 1e-6 of its number also in the negative tail") {
  // The tail's relative error is that of the exponent's rounding: some ulps at e^−60.
  const auto wanted = [](double x) {
    const double inner = std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x);
    return x / (1 + std::exp(-2 * inner));
  };
  for (float x = -7; x < 7; x += 0.001f) {
    const double right = wanted(static_cast<double>(x));
    const double bound = x < -1 ? 2e-5 : 1e-6;
    INFO("x = " << x);
    CHECK(std::fabs(static_cast<double>(gelu(x)) - right) <= bound * std::fabs(right));
  }
}

TEST_CASE("gelu: far tails are x and 0, with slopes 1 and 0") {
  for (const float x : {20.0f, 100.0f, 3000.0f, 1e12f}) {
    CHECK(gelu(x) == x);
    CHECK(gelu(-x) == 0);
    CHECK(gelu_derivative(x) == 1);
    CHECK(gelu_derivative(-x) == 0);
  }
  CHECK(gelu(1e30f) == 1e30f);
  CHECK(gelu(-1e30f) == 0);
  CHECK(std::isnan(gelu(kNan)));
  CHECK(std::isnan(gelu_derivative(kNan)));
}

TEST_CASE("silu: far tails are x and 0, with slopes 1 and 0") {
  for (const float x : {100.0f, 3000.0f, 1e30f}) {
    CHECK(silu(x) == x);
    CHECK(silu(-x) == 0);
    CHECK(silu_derivative(x) == 1);
    CHECK(silu_derivative(-x) == 0);
  }
  CHECK(silu(0.0f) == 0);
  CHECK(silu_derivative(0.0f) == 0.5f);
  CHECK(std::isnan(silu(kNan)));
}

}  // namespace
}  // namespace normlab
