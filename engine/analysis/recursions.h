// What "The Curse of Depth" (arXiv 2502.05795) says of variances and gradients, as formulas to be
// laid beside a measurement. None of them is asserted: solved numerically, lemma 3.2 grows as L²
// where the paper's bound is exponential, and both products of theorem 4.2 converge.
#pragma once

#include <cstdint>
#include <vector>

namespace normlab {

// Of the variance σ²_l of what goes into layer l, counted from 1.
enum class Recursion {
  pre,  // lemma 3.2: σ²_{l+1} = σ²_l · (1 + c/σ_l)
  lns,  // lemma 4.1: σ²_{l+1} = σ²_l · (1 + c/(√l·σ_l))
};

// σ²_l of `count` layers from `first` on, from σ²_first = `variance`. What falls below 0 stays at
// 0.
std::vector<double> variances_by(Recursion recursion, double c, double variance, int64_t first,
                                 int64_t count);

// The c for which one step of the recursion from each measured σ²_l comes nearest to the measured
// σ²_{l+1}, in least squares over all l: with g_l = σ_l (pre) or σ_l/√l (lns), the step is
// σ²_{l+1} − σ²_l = c·g_l, so that c = Σ (σ²_{l+1} − σ²_l)·g_l / Σ g_l²; 0 where there is no step.
// The variances are those of layers `first`, first + 1, …
double fitted_constant(Recursion recursion, const std::vector<double>& variances, int64_t first);

// Bounds of |∂y_l/∂x_1| for l = 1 … L, from σ²_1 … σ²_L:
//   pre, theorem 3.3: Π_{k ≤ l} (1 + A/σ_k + B/σ_k²)
//   lns, theorem 4.2: Π_{k ≤ l} (1 + A/(k·σ_k) + B/(k²·σ_k²))
// A and B depend on the standard deviations of weights and on the shapes (eqs. 47, 48).
std::vector<double> gradient_bounds(Recursion recursion, const std::vector<double>& variances,
                                    double a, double b);

}  // namespace normlab
