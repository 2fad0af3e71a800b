// Dense layers: products by cuBLASLt (gemm.cpp), and the column sums that are a bias's gradient.
#include <algorithm>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/vector.h"

namespace normlab {
namespace {

constexpr int kRowsAtOnce = 8;        // of a block: one a warp
constexpr int64_t kRowsOfBlock = 64;  // at least: below that, partials cost more than they save

// A warp sums every gridDim.y·kRowsAtOnce-th row of 32·kWidth columns, then the block its warps:
// partials[block·columns + column]. Reads x once: rows·columns elements.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kWarpSize* kRowsAtOnce)
    sum_columns_kernel(Scratch<float> partials, Rows<const T> x, int64_t rows, int64_t columns) {
  SharedMemory shared;
  constexpr int kColumns = kWarpSize * kWidth;
  const auto sums = shared.take<float>(kRowsAtOnce * kColumns);
  const int64_t first = int64_t{blockIdx.x} * kColumns;
  const int64_t column = first + lane_index() * kWidth;
  float sum[kWidth] = {};
  if (column < columns) {
    const int64_t step = int64_t{gridDim.y} * kRowsAtOnce;
#pragma unroll 4
    for (int64_t row = int64_t{blockIdx.y} * kRowsAtOnce + warp_index(); row < rows; row += step) {
      float part[kWidth];
      load(part, x[row] + column);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum[i] += part[i];
    }
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    sums[warp_index() * kColumns + lane_index() * kWidth + i] = sum[i];
  }
  __syncthreads();
  const int own = static_cast<int>(threadIdx.x);
  if (own >= kColumns || first + own >= columns) return;
  float total = 0;
  for (int row = 0; row < kRowsAtOnce; ++row) {
    total += static_cast<float>(sums[row * kColumns + own]);
  }
  partials[blockIdx.y * columns + first + own] = total;
}

}  // namespace

template <typename Working>
void CudaOps<Working>::add_column_sums(Tensor d_bias, ConstTensor d_y) {
  const int64_t rows = d_y.rows(), columns = d_y.columns();
  check(d_bias.elements() == columns, "column sums: d_bias (O), d_y (N,O)");
  with_vector_width<Working>({d_y}, [&](auto width) {
    constexpr int64_t kColumns = kWarpSize * width;
    const int64_t across = (columns + kColumns - 1) / kColumns;
    const int64_t wanted = (rows + kRowsOfBlock - 1) / kRowsOfBlock;
    const int64_t affordable = std::max<int64_t>(resident_blocks() / across, 1);
    const int64_t down = std::min(wanted, affordable);
    const Scratch<float> partials = scratch<float>(down * columns);
    const LaunchShape shape{dim3(static_cast<unsigned>(across), static_cast<unsigned>(down)),
                            dim3(kWarpSize * kRowsAtOnce),
                            SharedMemory::shared_array_bytes<float>(kRowsAtOnce * kColumns),
                            stream_};
    launch("sum_columns", sum_columns_kernel<Working, width>, shape, partials,
           const_rows_of<Working>(d_y), rows, columns);
    add_partials(d_bias, partials, down, columns, 0);
  });
}

template <typename Working>
void CudaOps<Working>::linear_forward(Tensor y, ConstTensor x, ConstTensor weight,
                                      ConstTensor bias) {
  check(y.rows() == x.rows() && y.columns() == weight.rows() && x.columns() == weight.columns(),
        "linear_forward: y (N,O), x (N,I), weight (O,I)");
  gemm_(y, {x}, {weight, Transpose::yes}, bias, Target::overwritten, stream_);
}

template <typename Working>
void CudaOps<Working>::linear_backward_input(Tensor d_x, ConstTensor d_y, ConstTensor weight) {
  check(d_x.rows() == d_y.rows() && d_y.columns() == weight.rows() &&
            d_x.columns() == weight.columns(),
        "linear_backward_input: d_x (N,I), d_y (N,O), weight (O,I)");
  gemm_(d_x, {d_y}, {weight}, {}, Target::overwritten, stream_);
}

template <typename Working>
void CudaOps<Working>::linear_backward_weight(Tensor d_weight, Tensor d_bias, ConstTensor d_y,
                                              ConstTensor x) {
  check(d_weight.rows() == d_y.columns() && d_weight.columns() == x.columns() &&
            d_y.rows() == x.rows(),
        "linear_backward_weight: d_weight (O,I), d_y (N,O), x (N,I)");
  if (d_y.rows() == 0) return;
  gemm_(d_weight, {d_y, Transpose::yes}, {x}, {}, Target::accumulated, stream_);
  if (d_bias) add_column_sums(d_bias, d_y);
}

template void CudaOps<float>::add_column_sums(Tensor, ConstTensor);
template void CudaOps<float>::linear_forward(Tensor, ConstTensor, ConstTensor, ConstTensor);
template void CudaOps<float>::linear_backward_input(Tensor, ConstTensor, ConstTensor);
template void CudaOps<float>::linear_backward_weight(Tensor, Tensor, ConstTensor, ConstTensor);
template void CudaOps<BFloat16>::add_column_sums(Tensor, ConstTensor);
template void CudaOps<BFloat16>::linear_forward(Tensor, ConstTensor, ConstTensor, ConstTensor);
template void CudaOps<BFloat16>::linear_backward_input(Tensor, ConstTensor, ConstTensor);
template void CudaOps<BFloat16>::linear_backward_weight(Tensor, Tensor, ConstTensor, ConstTensor);

}  // namespace normlab
