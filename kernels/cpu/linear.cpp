// Products: dense layers, forward and backward.
#include <algorithm>

#include "kernels/cpu/cpu_ops.h"

namespace normlab {
namespace {

// Tiles of the output. 192 × 384 runs oneDNN within a few percent of a whole product on AVX-512
// (one thread: 131 to 169 GFLOP/s against 149 to 174 at C = 768 and 128); small products get
// smaller ones, down to 64 × 128 (101 to 142), so that several cores have work. A function of the
// shape alone, never of the threads: the tiles fix the bits.
struct Tile {
  int64_t rows;
  int64_t columns;
};

Tile tile_of(int64_t m, int64_t n) {
  constexpr int64_t kEnough = 8;
  Tile tile{192, 384};
  const auto count = [&] {
    return ((m + tile.rows - 1) / tile.rows) * ((n + tile.columns - 1) / tile.columns);
  };
  for (const Tile smaller : {Tile{128, 256}, Tile{64, 128}}) {
    if (count() < kEnough) tile = smaller;
  }
  return tile;
}

}  // namespace

template <typename Scalar>
void CpuOps<Scalar>::product(int64_t m, int64_t n, int64_t k, Matrix<const Scalar> a,
                             Matrix<const Scalar> b, Scalar beta, Matrix<Scalar> c) {
  const Tile tile = tile_of(m, n);
  const int64_t tile_rows = (m + tile.rows - 1) / tile.rows;
  const int64_t tile_columns = (n + tile.columns - 1) / tile.columns;
  parallel_for(threads_, tile_rows * tile_columns, [&](int64_t piece, int) {
    // Neighbouring pieces share columns of b, the larger operand as a rule.
    const int64_t row = piece % tile_rows * tile.rows;
    const int64_t column = piece / tile_rows * tile.columns;
    const auto moved = [](Matrix<const Scalar> matrix, int64_t along, Transpose outer) {
      matrix.data += matrix.transpose == outer ? along : along * matrix.stride;
      return matrix;
    };
    gemm(std::min(tile.rows, m - row), std::min(tile.columns, n - column), k, Scalar(1),
         moved(a, row, Transpose::yes), moved(b, column, Transpose::no), beta,
         {c.data + row * c.stride + column, c.stride});
  });
}

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
  product(y.rows(), y.columns(), x.columns(), {x.as<Scalar>(), x.row_stride},
          {weight.as<Scalar>(), weight.row_stride, Transpose::yes}, Scalar(bias ? 1 : 0),
          {out, y.row_stride});
}

template <typename Scalar>
void CpuOps<Scalar>::linear_backward_input(Tensor d_x, ConstTensor d_y, ConstTensor weight) {
  check(d_x.rows() == d_y.rows() && d_y.columns() == weight.rows() &&
            d_x.columns() == weight.columns(),
        "linear_backward_input: d_x (N,I), d_y (N,O), weight (O,I)");
  product(d_x.rows(), d_x.columns(), d_y.columns(), {d_y.as<Scalar>(), d_y.row_stride},
          {weight.as<Scalar>(), weight.row_stride}, Scalar(0), {d_x.as<Scalar>(), d_x.row_stride});
}

template <typename Scalar>
void CpuOps<Scalar>::linear_backward_weight(Tensor d_weight, Tensor d_bias, ConstTensor d_y,
                                            ConstTensor x) {
  check(d_weight.rows() == d_y.columns() && d_weight.columns() == x.columns() &&
            d_y.rows() == x.rows(),
        "linear_backward_weight: d_weight (O,I), d_y (N,O), x (N,I)");
  product(d_weight.rows(), d_weight.columns(), d_y.rows(),
          {d_y.as<Scalar>(), d_y.row_stride, Transpose::yes}, {x.as<Scalar>(), x.row_stride},
          Scalar(1), {d_weight.as<Scalar>(), d_weight.row_stride});
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
