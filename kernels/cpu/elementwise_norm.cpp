// Norms that are none: dyt and derf.
#include <algorithm>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/formula.h"

namespace normlab {
namespace {

constexpr int64_t kBlockRows = 64;  // of one partial sum of the parameters' gradients

template <typename Scalar>
Squashed<Scalar> squashed(NormKind kind, Scalar u) {
  return kind == NormKind::dyt ? squashed_tanh(u) : squashed_erf(u);
}

template <typename Scalar>
struct Parameters {
  const Scalar* gain;
  const Scalar* bias;
  Scalar slope;
  Scalar shift;
  Scalar scale;

  explicit Parameters(const ElementwiseNorm& norm)
      : gain(norm.gain.as<Scalar>()),
        bias(norm.bias.as<Scalar>()),
        slope(*norm.slope.as<Scalar>()),
        shift(norm.shift ? *norm.shift.as<Scalar>() : Scalar(0)),
        scale(static_cast<Scalar>(norm.scale)) {
    check(norm.kind == NormKind::dyt || norm.kind == NormKind::derf, "an elementwise norm");
  }
};

}  // namespace

template <typename Scalar>
void CpuOps<Scalar>::elementwise_norm_forward(Tensor y, ConstTensor x,
                                              const ElementwiseNorm& norm) {
  const Parameters<Scalar> parameters(norm);
  parallel_ranges(threads_, y.rows(), kBlockRows / 8, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) {
      Scalar* out = y.as<Scalar>() + row * y.row_stride;
      const Scalar* in = x.as<Scalar>() + row * x.row_stride;
      for (int64_t c = 0; c < y.columns(); ++c) {
        const Scalar f = squashed(norm.kind, parameters.slope * in[c] + parameters.shift).value;
        out[c] = parameters.scale * (parameters.gain[c] * f + parameters.bias[c]);
      }
    }
  });
}

// Of a block of rows: (C) sums for gain, (C) for bias, (C) for slope and (C) for shift, whose
// columns are added at the end.
template <typename Scalar>
void CpuOps<Scalar>::elementwise_norm_backward(Tensor d_x,
                                               const ElementwiseNormGradients& d_parameters,
                                               ConstTensor d_y, ConstTensor d_residual,
                                               ConstTensor x, const ElementwiseNorm& norm) {
  const Parameters<Scalar> parameters(norm);
  const int64_t rows = x.rows(), width = x.columns();
  const int64_t blocks = (rows + kBlockRows - 1) / kBlockRows;
  partials_.assign(static_cast<size_t>(blocks * 4 * width), Scalar(0));
  parallel_for(threads_, blocks, [&](int64_t block, int) {
    Scalar* gain_sums = partials_.data() + block * 4 * width;
    Scalar* bias_sums = gain_sums + width;
    Scalar* slope_sums = bias_sums + width;
    Scalar* shift_sums = slope_sums + width;
    for (int64_t row = block * kBlockRows; row < std::min(rows, (block + 1) * kBlockRows); ++row) {
      Scalar* out = d_x.as<Scalar>() + row * d_x.row_stride;
      const Scalar* gradient = d_y.as<Scalar>() + row * d_y.row_stride;
      const Scalar* in = x.as<Scalar>() + row * x.row_stride;
      const Scalar* past =
          d_residual ? d_residual.as<Scalar>() + row * d_residual.row_stride : nullptr;
      for (int64_t c = 0; c < width; ++c) {
        const auto f = squashed(norm.kind, parameters.slope * in[c] + parameters.shift);
        const Scalar g = parameters.scale * gradient[c];
        const Scalar inner = g * parameters.gain[c] * f.slope;
        gain_sums[c] += g * f.value;
        bias_sums[c] += g;
        slope_sums[c] += inner * in[c];
        shift_sums[c] += inner;
        out[c] = inner * parameters.slope + (past == nullptr ? Scalar(0) : past[c]);
      }
    }
  });
  const auto sum_of = [&](int64_t part, int64_t column) {
    Scalar total = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      total += partials_[static_cast<size_t>((block * 4 + part) * width + column)];
    }
    return total;
  };
  double d_slope = 0, d_shift = 0;
  for (int64_t c = 0; c < width; ++c) {
    d_parameters.gain.template as<Scalar>()[c] += sum_of(0, c);
    d_parameters.bias.template as<Scalar>()[c] += sum_of(1, c);
    d_slope += static_cast<double>(sum_of(2, c));
    d_shift += static_cast<double>(sum_of(3, c));
  }
  *d_parameters.slope.template as<Scalar>() += static_cast<Scalar>(d_slope);
  if (d_parameters.shift) {
    *d_parameters.shift.template as<Scalar>() += static_cast<Scalar>(d_shift);
  }
}

template class CpuOps<float>;
template class CpuOps<double>;

}  // namespace normlab
