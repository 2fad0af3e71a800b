// Cross-entropy.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/formula.h"

namespace normlab {
namespace {

constexpr int64_t kGrainRows = 4;

// The largest logit, and the sum of exponentials of what each is above it. Kept apart: at logits
// about −90 their log-sum-exp, as one float, would be off by 4e-6.
template <typename Scalar>
struct Exponentials {
  Scalar largest;
  Scalar sum;
  Scalar loss(Scalar logit) const { return std::log(sum) + (largest - logit); }
};

// `kept`: where the exponentials go, which may be the logits' own place; or null.
template <typename Scalar>
Exponentials<Scalar> exponentials_of(const Scalar* logits, int64_t count, Scalar* kept) {
  Scalar largest = logits[0];
#pragma omp simd reduction(max : largest)
  for (int64_t c = 0; c < count; ++c) largest = std::max(largest, logits[c]);
  // In pieces: one float that takes in a vocabulary one by one would lose two digits.
  constexpr int64_t kPiece = 1024;
  Scalar above[kPiece];
  Scalar sum = 0;
  for (int64_t first = 0; first < count; first += kPiece) {
    const int64_t size = std::min(kPiece, count - first);
    Scalar part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t i = 0; i < size; ++i) {
      above[i] = exponential(logits[first + i] - largest);
      part += above[i];
    }
    sum += part;
    if (kept != nullptr) std::copy(above, above + size, kept + first);
  }
  return {largest, sum};
}

}  // namespace

template <typename Scalar>
void CpuOps<Scalar>::cross_entropy_forward(Tensor losses, ConstTensor logits, ConstTensor targets) {
  check(losses.rows() == logits.rows() && targets.rows() == logits.rows(),
        "cross_entropy: losses (R,1), targets (R,1), logits (R,V)");
  check(losses.contiguous() && targets.contiguous(), "cross_entropy: contiguous losses, targets");
  const int32_t* target = targets.as<int32_t>();
  parallel_ranges(threads_, logits.rows(), kGrainRows, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) {
      const Scalar* x = logits.as<Scalar>() + row * logits.row_stride;
      Scalar* const none = nullptr;
      losses.as<Scalar>()[row] =
          target[row] < 0 ? Scalar(0)
                          : exponentials_of(x, logits.columns(), none).loss(x[target[row]]);
    }
  });
}

template <typename Scalar>
void CpuOps<Scalar>::cross_entropy_backward(Tensor losses, Tensor logits, ConstTensor targets) {
  check(losses.rows() == logits.rows() && targets.rows() == logits.rows(),
        "cross_entropy: losses (R,1), targets (R,1), logits (R,V)");
  check(losses.contiguous() && targets.contiguous(), "cross_entropy: contiguous losses, targets");
  const int32_t* target = targets.as<int32_t>();
  const auto scale = static_cast<Scalar>(state_.loss_scale);
  parallel_ranges(threads_, logits.rows(), kGrainRows, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) {
      Scalar* x = logits.as<Scalar>() + row * logits.row_stride;
      if (target[row] < 0) {
        losses.as<Scalar>()[row] = 0;
        std::fill(x, x + logits.columns(), Scalar(0));
        continue;
      }
      const Scalar wanted = x[target[row]];
      const Exponentials<Scalar> row_sum = exponentials_of(x, logits.columns(), x);
      losses.as<Scalar>()[row] = row_sum.loss(wanted);
      const Scalar factor = scale / row_sum.sum;
#pragma omp simd
      for (int64_t c = 0; c < logits.columns(); ++c) x[c] *= factor;
      x[target[row]] -= scale;
    }
  });
}

template <typename Scalar>
void CpuOps<Scalar>::add_loss(ConstTensor losses) {
  double sum = 0;
  for (int64_t row = 0; row < losses.rows(); ++row) {
    sum += static_cast<double>(losses.as<Scalar>()[row * losses.row_stride]);
  }
  losses_.loss += state_.loss_scale * sum;
}

template class CpuOps<float>;
template class CpuOps<double>;

}  // namespace normlab
