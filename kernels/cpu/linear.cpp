// Products: dense layers, forward and backward.
#include <algorithm>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/gemm.h"

namespace normlab {
template <typename Scalar>
void CpuOps<Scalar>::linear_forward(Tensor y, ConstTensor x, ConstTensor weight, ConstTensor bias) {
  check(y.rows() == x.rows() && y.columns() == weight.rows() && x.columns() == weight.columns(),
        "linear_forward: y (N,O), x (N,I), weight (O,I)");
  Scalar* out = y.as<Scalar>();
  if (bias) {
    // The product is added to the bias that is already there: one pass less over y.
    const Scalar* b = bias.as<Scalar>();
    parallel_ranges(threads_, y.rows(), 64, [&](int64_t first, int64_t last, int) {
      for (int64_t row = first; row < last; ++row) {
        std::copy(b, b + y.columns(), out + row * y.row_stride);
      }
    });
  }
  gemm<Scalar>(threads_, y.rows(), y.columns(), x.columns(), 1, {x.as<Scalar>(), x.row_stride},
               {weight.as<Scalar>(), weight.row_stride, Transpose::yes},
               bias ? Store::add : Store::replace, {out, y.row_stride});
}

template <typename Scalar>
void CpuOps<Scalar>::linear_backward_input(Tensor d_x, ConstTensor d_y, ConstTensor weight) {
  check(d_x.rows() == d_y.rows() && d_y.columns() == weight.rows() &&
            d_x.columns() == weight.columns(),
        "linear_backward_input: d_x (N,I), d_y (N,O), weight (O,I)");
  gemm<Scalar>(threads_, d_x.rows(), d_x.columns(), d_y.columns(), 1,
               {d_y.as<Scalar>(), d_y.row_stride}, {weight.as<Scalar>(), weight.row_stride},
               Store::replace, {d_x.as<Scalar>(), d_x.row_stride});
}

template <typename Scalar>
void CpuOps<Scalar>::linear_backward_weight(Tensor d_weight, Tensor d_bias, ConstTensor d_y,
                                            ConstTensor x) {
  check(d_weight.rows() == d_y.columns() && d_weight.columns() == x.columns() &&
            d_y.rows() == x.rows(),
        "linear_backward_weight: d_weight (O,I), d_y (N,O), x (N,I)");
  gemm<Scalar>(threads_, d_weight.rows(), d_weight.columns(), d_y.rows(), 1,
               {d_y.as<Scalar>(), d_y.row_stride, Transpose::yes}, {x.as<Scalar>(), x.row_stride},
               Store::add, {d_weight.as<Scalar>(), d_weight.row_stride});
  if (!d_bias) return;
  Scalar* out = d_bias.as<Scalar>();
  const Scalar* gradient = d_y.as<Scalar>();
  // One thread a strip of columns, all rows in order.
  constexpr int64_t kStrip = 64;
  parallel_ranges(threads_, d_y.columns(), kStrip, [&](int64_t first, int64_t last, int) {
    Scalar sums[kStrip] = {};
    for (int64_t row = 0; row < d_y.rows(); ++row) {
      const Scalar* line = gradient + row * d_y.row_stride + first;
      for (int64_t i = 0; i < last - first; ++i) sums[i] += line[i];
    }
    for (int64_t i = 0; i < last - first; ++i) out[first + i] += sums[i];
  });
}

template class CpuOps<float>;
template class CpuOps<double>;

}  // namespace normlab
