// What placements of norms ask for beside norms: sums with factors, learnt factors, gates.
#include <algorithm>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/partials.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/vector.h"
#include "kernels/formula.h"

namespace normlab {
namespace {

constexpr int kProductThreads = 256;
constexpr int64_t kRowsOfBlock = 16;  // at least

template <typename T, int kWidth>
__global__ void scaled_sum_kernel(Rows<T> y, Rows<const T> a, Rows<const T> b, float of_a,
                                  float of_b, int64_t rows, int64_t columns) {
  for_each_vector<kWidth>(rows, columns, [&](int64_t row, int64_t column) {
    float left[kWidth], right[kWidth] = {};
    load(left, a[row] + column);
    if (b.present()) load(right, b[row] + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) left[i] = of_a * left[i] + of_b * right[i];
    store(y[row] + column, left);
  });
}

// factor: one a column, or one for all.
template <typename T, int kWidth>
__global__ void scale_kernel(Rows<T> y, Rows<const T> x, const T* factor, int64_t factors,
                             int64_t rows, int64_t columns) {
  for_each_vector<kWidth>(rows, columns, [&](int64_t row, int64_t column) {
    float values[kWidth];
    load(values, x[row] + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      float one[1];
      load(one, factor + (factors == 1 ? 0 : column + i));
      values[i] *= one[0];
    }
    store(y[row] + column, values);
  });
}

template <typename T, int kWidth>
__global__ void gpas_kernel(Rows<T> y, Rows<const T> x, const T* gate, int64_t rows,
                            int64_t columns) {
  float one[1];
  load(one, gate);
  const float factor = 1 - silu(one[0]);
  for_each_vector<kWidth>(rows, columns, [&](int64_t row, int64_t column) {
    float values[kWidth];
    load(values, x[row] + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) values[i] *= factor;
    store(y[row] + column, values);
  });
}

// partials[block·columns + column] = Σ a·b over every gridDim.x-th row. Two reads of (N,C).
template <typename T>
__global__ void __launch_bounds__(kProductThreads)
    sum_products_kernel(Scratch<float> partials, Rows<const T> a, Rows<const T> b, int64_t rows,
                        int64_t columns) {
  for (int64_t column = threadIdx.x; column < columns; column += kProductThreads) {
    float sum = 0;
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
      float left[1], right[1];
      load(left, a[row] + column);
      load(right, b[row] + column);
      sum += left[0] * right[0];
    }
    partials[int64_t{blockIdx.x} * columns + column] = sum;
  }
}

// d_gate −= silu'(gate) · the total.
template <typename T>
__global__ void __launch_bounds__(kTotalThreads)
    gate_gradient_kernel(float* d_gate, Scratch<float> partials, PartialColumns columns,
                         const T* gate) {
  const float sum = total_of(partials, columns);
  if (threadIdx.x != 0) return;
  float one[1];
  load(one, gate);
  d_gate[0] -= silu_derivative(one[0]) * sum;
}

}  // namespace

template <typename Working>
void CudaOps<Working>::scaled_sum(Tensor y, ConstTensor a, ConstTensor b,
                                  const SumFactors& factors) {
  const Extents extents = b ? extents_of({y, a, b}) : extents_of({y, a});
  with_vector_width<Working>({y, a, b}, [&](auto width) {
    const ElementGrid shape = element_grid(extents.rows, extents.columns, width, resident_blocks());
    launch("scaled_sum", scaled_sum_kernel<Working, width>, {shape.grid, shape.block, 0, stream_},
           rows_of<Working>(y), const_rows_of<Working>(a), const_rows_of<Working>(b),
           static_cast<float>(factors.a), static_cast<float>(factors.b), extents.rows,
           extents.columns);
  });
}

template <typename Working>
void CudaOps<Working>::scale_forward(Tensor y, ConstTensor x, ConstTensor factor) {
  with_vector_width<Working>({y, x}, [&](auto width) {
    const ElementGrid shape = element_grid(x.rows(), x.columns(), width, resident_blocks());
    launch("scale_forward", scale_kernel<Working, width>, {shape.grid, shape.block, 0, stream_},
           rows_of<Working>(y), const_rows_of<Working>(x), factor.as<Working>(), factor.elements(),
           x.rows(), x.columns());
  });
}

template <typename Working>
int64_t CudaOps<Working>::product_blocks(int64_t rows) const {
  return std::min((rows + kRowsOfBlock - 1) / kRowsOfBlock, resident_blocks());
}

template <typename Working>
void CudaOps<Working>::sum_products(const Scratch<float>& partials, ConstTensor a, ConstTensor b) {
  launch("sum_products", sum_products_kernel<Working>,
         {dim3(static_cast<unsigned>(product_blocks(a.rows()))), dim3(kProductThreads), 0, stream_},
         partials, const_rows_of<Working>(a), const_rows_of<Working>(b), a.rows(), a.columns());
}

template <typename Working>
void CudaOps<Working>::scale_backward(Tensor d_x, Tensor d_factor, ConstTensor d_y, ConstTensor x,
                                      ConstTensor factor) {
  const int64_t blocks = product_blocks(x.rows()), columns = x.columns();
  const Scratch<float> partials = scratch<float>(blocks * columns);
  sum_products(partials, d_y, x);
  if (factor.elements() == 1) {
    add_total(d_factor, partials, blocks, columns, 0, columns);
  } else {
    add_partials(d_factor, partials, blocks, columns, 0);
  }
  scale_forward(d_x, d_y, factor);
}

template <typename Working>
void CudaOps<Working>::gpas_forward(Tensor y, ConstTensor x, ConstTensor gate) {
  with_vector_width<Working>({y, x}, [&](auto width) {
    const ElementGrid shape = element_grid(x.rows(), x.columns(), width, resident_blocks());
    launch("gpas_forward", gpas_kernel<Working, width>, {shape.grid, shape.block, 0, stream_},
           rows_of<Working>(y), const_rows_of<Working>(x), gate.as<Working>(), x.rows(),
           x.columns());
  });
}

template <typename Working>
void CudaOps<Working>::gpas_backward(Tensor d_gate, ConstTensor d_y, ConstTensor x,
                                     ConstTensor gate) {
  const int64_t blocks = product_blocks(x.rows()), columns = x.columns();
  const Scratch<float> partials = scratch<float>(blocks * columns);
  sum_products(partials, d_y, x);
  launch("gate_gradient", gate_gradient_kernel<Working>,
         {dim3(1), dim3(kTotalThreads), kTotalBytes, stream_}, d_gate.as<float>(), partials,
         PartialColumns{blocks, columns, 0, columns}, gate.as<Working>());
}

template void CudaOps<float>::scaled_sum(Tensor, ConstTensor, ConstTensor, const SumFactors&);
template void CudaOps<float>::scale_forward(Tensor, ConstTensor, ConstTensor);
template void CudaOps<float>::scale_backward(Tensor, Tensor, ConstTensor, ConstTensor, ConstTensor);
template void CudaOps<float>::gpas_forward(Tensor, ConstTensor, ConstTensor);
template void CudaOps<float>::gpas_backward(Tensor, ConstTensor, ConstTensor, ConstTensor);
template void CudaOps<BFloat16>::scaled_sum(Tensor, ConstTensor, ConstTensor, const SumFactors&);
template void CudaOps<BFloat16>::scale_forward(Tensor, ConstTensor, ConstTensor);
template void CudaOps<BFloat16>::scale_backward(Tensor, Tensor, ConstTensor, ConstTensor,
                                                ConstTensor);
template void CudaOps<BFloat16>::gpas_forward(Tensor, ConstTensor, ConstTensor);
template void CudaOps<BFloat16>::gpas_backward(Tensor, ConstTensor, ConstTensor, ConstTensor);

}  // namespace normlab
