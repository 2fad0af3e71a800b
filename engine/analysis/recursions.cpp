#include "engine/analysis/recursions.h"

#include <algorithm>
#include <cmath>

namespace normlab {
namespace {

// What the recursion's step from layer l (counted from 1) is proportional to.
double growth(Recursion recursion, double variance, int64_t layer) {
  switch (recursion) {
    case Recursion::pre:
      return std::sqrt(variance);
    case Recursion::lns:
      return std::sqrt(variance / static_cast<double>(layer));
  }
  return 0;
}

}  // namespace

std::vector<double> variances_by(Recursion recursion, double c, double variance, int64_t first,
                                 int64_t count) {
  std::vector<double> variances = {variance};
  for (int64_t layer = first; layer + 1 < first + count; ++layer) {
    variance = std::max(0.0, variance + c * growth(recursion, variance, layer));
    variances.push_back(variance);
  }
  return variances;
}

double fitted_constant(Recursion recursion, const std::vector<double>& variances, int64_t first) {
  double products = 0, squares = 0;
  for (size_t i = 0; i + 1 < variances.size(); ++i) {
    const double g = growth(recursion, variances[i], first + static_cast<int64_t>(i));
    products += (variances[i + 1] - variances[i]) * g;
    squares += g * g;
  }
  return squares > 0 ? products / squares : 0;
}

std::vector<double> gradient_bounds(Recursion recursion, const std::vector<double>& variances,
                                    double a, double b) {
  std::vector<double> bounds;
  double product = 1;
  for (size_t layer = 1; layer <= variances.size(); ++layer) {
    const double weight = recursion == Recursion::pre ? 1 : static_cast<double>(layer);
    const double inverse = 1 / (weight * std::sqrt(variances[layer - 1]));
    product *= 1 + a * inverse + b * inverse * inverse;
    bounds.push_back(product);
  }
  return bounds;
}

}  // namespace normlab
