// Residual sum and norm, forward and backward.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/special_rows.h"

namespace normlab {
namespace {

constexpr int64_t kBlockRows = 64;  // of one partial sum of d_gain and d_bias

// 1/std of the row as the output uses it: live, given, or between the two.
template <typename Scalar>
struct Gate {
  Scalar live = 1;   // weight of the row's own 1/std
  Scalar given = 0;  // (1 − gate)/σ
  Scalar given_special = 0;
  SpecialRows is_special;

  explicit Gate(const Norm& norm) : is_special(norm.special) {
    if (!norm.site) return;
    const Scalar* state = norm.site.as<Scalar>();
    live = state[0];
    if (live == 1) return;
    given = (1 - live) * state[1];
    if (norm.special.tokens) given_special = (1 - live) * state[2];
  }
  Scalar operator()(Scalar inverse_std, int64_t row) const {
    return live * inverse_std + (is_special(row) ? given_special : given);
  }
};

template <typename Scalar>
struct RowStatistics {
  Scalar mean;
  Scalar inverse_std;
};

// Two passes: E[x²] − E[x]² cancels on a residual stream with outliers.
template <typename Scalar>
RowStatistics<Scalar> statistics_of(const Scalar* x, int64_t width, const Norm& norm) {
  Scalar mean = 0;
  if (norm.kind == NormKind::layernorm) {
    Scalar total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t c = 0; c < width; ++c) total += x[c];
    mean = total / static_cast<Scalar>(width);
  }
  Scalar squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t c = 0; c < width; ++c) squares += (x[c] - mean) * (x[c] - mean);
  const Scalar variance = squares / static_cast<Scalar>(width);
  return {mean, 1 / std::sqrt(variance + static_cast<Scalar>(norm.epsilon))};
}

template <typename Scalar>
void normalize(Scalar* y, const Scalar* x, int64_t width, Scalar mean, Scalar inverse,
               const Norm& norm) {
  const Scalar* gain = norm.gain.as<Scalar>();
  const auto scale = static_cast<Scalar>(norm.scale);
  if (norm.bias) {
    const Scalar* bias = norm.bias.as<Scalar>();
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) {
      y[c] = scale * ((x[c] - mean) * inverse * gain[c] + bias[c]);
    }
  } else {
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) y[c] = scale * ((x[c] - mean) * inverse * gain[c]);
  }
}

// One row of the backward pass; adds to the block's sums of d_gain and d_bias.
//   g = scale · gain · d_y;  x̂ = (x − mean)/std;  i = `inverse`, the one in use
//   d_x = i·(g − mean(g)) − live/std·x̂·mean(g·x̂) + d_residual     (no mean(g) for rmsnorm)
template <typename Scalar>
void backward_row(Scalar* d_x, Scalar* gain_sums, Scalar* bias_sums, const Scalar* d_y,
                  const Scalar* d_residual, const Scalar* x, RowStatistics<Scalar> row,
                  Scalar inverse, int64_t width, Scalar live, const Norm& norm) {
  const Scalar* gain = norm.gain.as<Scalar>();
  const auto scale = static_cast<Scalar>(norm.scale);
  Scalar total = 0;
  Scalar projection = 0;
#pragma omp simd reduction(+ : total, projection)
  for (int64_t c = 0; c < width; ++c) {
    const Scalar g = scale * gain[c] * d_y[c];
    total += g;
    projection += g * (x[c] - row.mean);
  }
  const Scalar mean =
      norm.kind == NormKind::layernorm ? total / static_cast<Scalar>(width) : Scalar(0);
  const Scalar along = live * row.inverse_std * row.inverse_std * row.inverse_std * projection /
                       static_cast<Scalar>(width);
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) {
    const Scalar centred = x[c] - row.mean;
    const Scalar scaled = scale * d_y[c];
    gain_sums[c] += scaled * centred * inverse;
    bias_sums[c] += scaled;
    const Scalar gradient = inverse * (scaled * gain[c] - mean) - along * centred;
    d_x[c] = d_residual == nullptr ? gradient : gradient + d_residual[c];
  }
}

}  // namespace

template <typename Scalar>
void CpuOps<Scalar>::residual_norm_forward(Tensor sum, Tensor normed, Tensor statistics,
                                           ConstTensor residual, ConstTensor branch,
                                           const Norm& norm) {
  check(!branch || sum, "residual_norm_forward: a sum where there is a branch");
  const int64_t width = residual.columns();
  const Gate<Scalar> gate(norm);
  const Scalar* in = residual.as<Scalar>();
  parallel_ranges(threads_, residual.rows(), kBlockRows / 8, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) {
      const Scalar* x = in + row * residual.row_stride;
      if (sum) {
        Scalar* s = sum.as<Scalar>() + row * sum.row_stride;
        if (branch) {
          const Scalar* b = branch.as<Scalar>() + row * branch.row_stride;
          for (int64_t c = 0; c < width; ++c) s[c] = x[c] + b[c];
        } else if (s != x) {
          std::copy(x, x + width, s);
        }
        x = s;
      }
      const RowStatistics<Scalar> found = statistics_of(x, width, norm);
      Scalar* kept = statistics.as<Scalar>() + row * statistics.row_stride;
      kept[0] = found.mean;
      kept[1] = found.inverse_std;
      normalize(normed.as<Scalar>() + row * normed.row_stride, x, width, found.mean,
                gate(found.inverse_std, row), norm);
    }
  });
}

template <typename Scalar>
void CpuOps<Scalar>::residual_norm_backward(Tensor d_sum, Tensor d_gain, Tensor d_bias,
                                            ConstTensor d_normed, ConstTensor d_residual,
                                            ConstTensor sum, ConstTensor statistics,
                                            const Norm& norm) {
  const int64_t width = sum.columns();
  const int64_t blocks = (sum.rows() + kBlockRows - 1) / kBlockRows;
  const Gate<Scalar> gate(norm);
  partials_.assign(static_cast<size_t>(blocks * 2 * width), Scalar(0));
  parallel_for(threads_, blocks, [&](int64_t block, int) {
    Scalar* gain_sums = partials_.data() + block * 2 * width;
    const int64_t last = std::min(sum.rows(), (block + 1) * kBlockRows);
    for (int64_t row = block * kBlockRows; row < last; ++row) {
      const Scalar* kept = statistics.as<Scalar>() + row * statistics.row_stride;
      backward_row<Scalar>(
          d_sum.as<Scalar>() + row * d_sum.row_stride, gain_sums, gain_sums + width,
          d_normed.as<Scalar>() + row * d_normed.row_stride,
          d_residual ? d_residual.as<Scalar>() + row * d_residual.row_stride : nullptr,
          sum.as<Scalar>() + row * sum.row_stride, {kept[0], kept[1]}, gate(kept[1], row), width,
          gate.live, norm);
    }
  });
  Scalar* gain_out = d_gain.as<Scalar>();
  Scalar* bias_out = d_bias ? d_bias.as<Scalar>() : nullptr;
  parallel_ranges(threads_, width, 64, [&](int64_t first, int64_t last, int) {
    for (int64_t c = first; c < last; ++c) {
      Scalar gain_total = 0;
      Scalar bias_total = 0;
      for (int64_t block = 0; block < blocks; ++block) {
        gain_total += partials_[static_cast<size_t>(block * 2 * width + c)];
        bias_total += partials_[static_cast<size_t>((block * 2 + 1) * width + c)];
      }
      gain_out[c] += gain_total;
      if (bias_out != nullptr) bias_out[c] += bias_total;
    }
  });
}

template class CpuOps<float>;
template class CpuOps<double>;

}  // namespace normlab
