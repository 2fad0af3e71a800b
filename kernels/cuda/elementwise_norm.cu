// Norms that are none, dyt and derf; kernels/cpu/elementwise_norm.cpp does the same in plain loops.
#include <algorithm>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/vector.h"
#include "kernels/formula.h"

namespace normlab {
namespace {

constexpr int kBackwardThreads = 256;
constexpr int64_t kRowsOfBlock = 16;  // at least
constexpr int kSums = 4;              // gain, bias, slope, shift

template <typename T>
struct ElementwiseParameters {
  const T* gain;
  const T* bias;
  const T* slope;
  const T* shift;  // or null: 0
  float scale;
  bool is_tanh;
};

template <typename T>
ElementwiseParameters<T> parameters_of(const ElementwiseNorm& norm) {
  check(norm.kind == NormKind::dyt || norm.kind == NormKind::derf, "an elementwise norm");
  return {norm.gain.as<T>(),
          norm.bias.as<T>(),
          norm.slope.as<T>(),
          norm.shift ? norm.shift.as<T>() : nullptr,
          static_cast<float>(norm.scale),
          norm.kind == NormKind::dyt};
}

template <typename T>
__device__ __forceinline__ float number_at(const T* place) {
  float one[1];
  load(one, place);
  return one[0];
}

// f(slope · x + shift), the two numbers once a thread.
struct Squash {
  float slope;
  float shift;
  bool is_tanh;

  template <typename T>
  __device__ __forceinline__ explicit Squash(const ElementwiseParameters<T>& norm)
      : slope(number_at(norm.slope)),
        shift(norm.shift == nullptr ? 0.0f : number_at(norm.shift)),
        is_tanh(norm.is_tanh) {}
  __device__ __forceinline__ Squashed<float> operator()(float x) const {
    const float u = slope * x + shift;
    return is_tanh ? squashed_tanh(u) : squashed_erf(u);
  }
};

template <typename T, int kWidth>
__global__ void elementwise_norm_forward_kernel(Rows<T> y, Rows<const T> x,
                                                ElementwiseParameters<T> norm, int64_t rows,
                                                int64_t columns) {
  const Squash squash(norm);
  for_each_vector<kWidth>(rows, columns, [&](int64_t row, int64_t column) {
    float values[kWidth];
    load(values, x[row] + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float gain = number_at(norm.gain + column + i);
      const float bias = number_at(norm.bias + column + i);
      values[i] = norm.scale * (gain * squash(values[i]).value + bias);
    }
    store(y[row] + column, values);
  });
}

template <typename T>
struct ElementwiseBackward {
  Rows<T> d_x;
  Rows<const T> d_y;
  Rows<const T> d_residual;  // or absent
  Rows<const T> x;
  int64_t rows;
  int64_t columns;
  ElementwiseParameters<T> norm;
};

// A thread takes a column of every gridDim.x-th row; partials (blocks, kSums, C).
template <typename T>
__global__ void __launch_bounds__(kBackwardThreads)
    elementwise_norm_backward_kernel(ElementwiseBackward<T> arguments, Scratch<float> partials) {
  const ElementwiseParameters<T>& norm = arguments.norm;
  const Squash squash(norm);
  const int64_t columns = arguments.columns;
  for (int64_t column = threadIdx.x; column < columns; column += kBackwardThreads) {
    const float gain = number_at(norm.gain + column);
    float sums[kSums] = {};
    for (int64_t row = blockIdx.x; row < arguments.rows; row += gridDim.x) {
      const float x = number_at(arguments.x[row] + column);
      const float g = norm.scale * number_at(arguments.d_y[row] + column);
      const Squashed<float> f = squash(x);
      const float inner = g * gain * f.slope;
      sums[0] += g * f.value;
      sums[1] += g;
      sums[2] += inner * x;
      sums[3] += inner;
      float d_x[1] = {inner * squash.slope};
      if (arguments.d_residual.present()) {
        d_x[0] += number_at(arguments.d_residual[row] + column);
      }
      store(arguments.d_x[row] + column, d_x);
    }
#pragma unroll
    for (int s = 0; s < kSums; ++s) {
      partials[(int64_t{blockIdx.x} * kSums + s) * columns + column] = sums[s];
    }
  }
}

}  // namespace

template <typename Working>
void CudaOps<Working>::elementwise_norm_forward(Tensor y, ConstTensor x,
                                                const ElementwiseNorm& norm) {
  with_vector_width<Working>({y, x}, [&](auto width) {
    const ElementGrid shape = element_grid(x.rows(), x.columns(), width, resident_blocks());
    launch("elementwise_norm_forward", elementwise_norm_forward_kernel<Working, width>,
           {shape.grid, shape.block, 0, stream_}, rows_of<Working>(y), const_rows_of<Working>(x),
           parameters_of<Working>(norm), x.rows(), x.columns());
  });
}

template <typename Working>
void CudaOps<Working>::elementwise_norm_backward(Tensor d_x,
                                                 const ElementwiseNormGradients& d_parameters,
                                                 ConstTensor d_y, ConstTensor d_residual,
                                                 ConstTensor x, const ElementwiseNorm& norm) {
  const int64_t rows = x.rows(), columns = x.columns();
  const int64_t blocks = std::min((rows + kRowsOfBlock - 1) / kRowsOfBlock, resident_blocks());
  const int64_t stride = kSums * columns;
  const Scratch<float> partials = scratch<float>(blocks * stride);
  launch("elementwise_norm_backward", elementwise_norm_backward_kernel<Working>,
         {dim3(static_cast<unsigned>(blocks)), dim3(kBackwardThreads), 0, stream_},
         ElementwiseBackward<Working>{rows_of<Working>(d_x), const_rows_of<Working>(d_y),
                                      const_rows_of<Working>(d_residual), const_rows_of<Working>(x),
                                      rows, columns, parameters_of<Working>(norm)},
         partials);
  add_partials(d_parameters.gain, partials, blocks, stride, 0);
  add_partials(d_parameters.bias, partials, blocks, stride, columns);
  add_total(d_parameters.slope, partials, blocks, stride, 2 * columns, columns);
  if (d_parameters.shift) {
    add_total(d_parameters.shift, partials, blocks, stride, 3 * columns, columns);
  }
}

template void CudaOps<float>::elementwise_norm_forward(Tensor, ConstTensor, const ElementwiseNorm&);
template void CudaOps<float>::elementwise_norm_backward(Tensor, const ElementwiseNormGradients&,
                                                        ConstTensor, ConstTensor, ConstTensor,
                                                        const ElementwiseNorm&);
template void CudaOps<BFloat16>::elementwise_norm_forward(Tensor, ConstTensor,
                                                          const ElementwiseNorm&);
template void CudaOps<BFloat16>::elementwise_norm_backward(Tensor, const ElementwiseNormGradients&,
                                                           ConstTensor, ConstTensor, ConstTensor,
                                                           const ElementwiseNorm&);

}  // namespace normlab
