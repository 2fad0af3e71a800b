// Gradient norm and AdamW.
#include <cmath>

#include "kernels/adamw.h"
#include "kernels/cpu/cpu_ops.h"

namespace normlab {
namespace {

// Sums of their own for so many neighbours, added in their order at the end: vectors of every width
// give the same bits. (GCC 12 leaves an `omp simd reduction` from float to double scalar.)
template <typename Scalar>
double squares(const Scalar* numbers, int64_t count) {
  constexpr int64_t kLanes = 32;
  double sums[kLanes] = {};
  const int64_t whole = count / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const auto number = static_cast<double>(numbers[i + lane]);
      sums[lane] += number * number;
    }
  }
  for (int64_t i = whole; i < count; ++i) {
    const auto number = static_cast<double>(numbers[i]);
    sums[i - whole] += number * number;
  }
  double sum = 0;
  for (const double lane : sums) sum += lane;
  return sum;
}

}  // namespace

template <typename Scalar>
void CpuOps<Scalar>::sum_of_squares(Tensor partials, ConstTensor gradient) {
  const Scalar* g = gradient.as<Scalar>();
  Scalar* out = partials.as<Scalar>();
  check(partials.elements() == (gradient.elements() + kNormBlock - 1) / kNormBlock,
        "sum_of_squares: one partial a block");
  parallel_ranges(threads_, gradient.elements(), kNormBlock, [&](int64_t first, int64_t last, int) {
    out[first / kNormBlock] = static_cast<Scalar>(squares(g + first, last - first));
  });
}

template <typename Scalar>
void CpuOps<Scalar>::finish_gradient(ConstTensor partials) {
  double sum = 0;
  for (int64_t i = 0; i < partials.elements(); ++i) {
    sum += static_cast<double>(partials.as<Scalar>()[i]);
  }
  state_.gradient_norm = std::sqrt(sum);
  state_.finite = std::isfinite(sum) && std::isfinite(losses_.loss + losses_.std_loss);
  const bool clips = state_.gradient_clip > 0 && state_.gradient_norm > state_.gradient_clip;
  state_.clip_scale = clips ? state_.gradient_clip / state_.gradient_norm : 1.0;
}

template <typename Scalar>
void CpuOps<Scalar>::round_weights(Tensor, ConstTensor) {
  check(has_masters(), "round_weights: weights that have masters");
}

template <typename Scalar>
void CpuOps<Scalar>::adamw(Tensor value, Tensor master, Tensor first_moment, Tensor second_moment,
                           ConstTensor gradient, const AdamW& settings) {
  check(!master, "adamw: no master");
  if (!state_.finite) return;
  const AdamStep<Scalar> step = adam_step<Scalar>(state_, settings);
  Scalar* w = value.as<Scalar>();
  Scalar* m = first_moment.as<Scalar>();
  Scalar* v = second_moment.as<Scalar>();
  const Scalar* g = gradient.as<Scalar>();
  constexpr int64_t kGrain = 1 << 15;
  parallel_ranges(threads_, value.elements(), kGrain, [&](int64_t first, int64_t last, int) {
#pragma omp simd
    for (int64_t i = first; i < last; ++i) step(w[i], m[i], v[i], g[i]);
  });
}

template class CpuOps<float>;
template class CpuOps<double>;

}  // namespace normlab
