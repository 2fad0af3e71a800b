// Zeros, copies and sums of tensors.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/vector.h"

namespace normlab {
namespace {

template <typename T, int kWidth>
__global__ void add_kernel(Rows<T> y, Rows<const T> a, Rows<const T> b, int64_t rows,
                           int64_t columns) {
  for_each_vector<kWidth>(rows, columns, [&](int64_t row, int64_t column) {
    float left[kWidth], right[kWidth];
    load(left, a[row] + column);
    load(right, b[row] + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) left[i] += right[i];
    store(y[row] + column, left);
  });
}

template <typename T>
void launch_add(Tensor y, ConstTensor a, ConstTensor b, int64_t blocks, cudaStream_t stream) {
  const Extents extents = extents_of({y, a, b});
  with_vector_width<T>({y, a, b}, [&](auto width) {
    const ElementGrid shape = element_grid(extents.rows, extents.columns, width, blocks);
    launch("add", add_kernel<T, width>, {shape.grid, shape.block, 0, stream}, rows_of<T>(y),
           const_rows_of<T>(a), const_rows_of<T>(b), extents.rows, extents.columns);
  });
}

}  // namespace

template <typename Working>
void CudaOps<Working>::zero(Tensor y) {
  const int64_t size = size_of(y.dtype);
  if (y.elements() == 0) return;
  if (y.contiguous()) {
    check_cuda(cudaMemsetAsync(y.data, 0, static_cast<size_t>(y.elements() * size), stream_),
               "zero");
    return;
  }
  check_cuda(cudaMemset2DAsync(y.data, static_cast<size_t>(y.row_stride * size), 0,
                               static_cast<size_t>(y.columns() * size),
                               static_cast<size_t>(y.rows()), stream_),
             "zero");
}

template <typename Working>
void CudaOps<Working>::copy(Tensor y, ConstTensor x) {
  check(y.rows() == x.rows() && y.columns() == x.columns() && y.dtype == x.dtype,
        "copy between tensors of one shape and type");
  const int64_t size = size_of(y.dtype);
  if (y.elements() == 0) return;
  if (y.contiguous() && x.contiguous()) {
    check_cuda(cudaMemcpyAsync(y.data, x.data, static_cast<size_t>(y.elements() * size),
                               cudaMemcpyDeviceToDevice, stream_),
               "copy");
    return;
  }
  check_cuda(cudaMemcpy2DAsync(y.data, static_cast<size_t>(y.row_stride * size), x.data,
                               static_cast<size_t>(x.row_stride * size),
                               static_cast<size_t>(y.columns() * size),
                               static_cast<size_t>(y.rows()), cudaMemcpyDeviceToDevice, stream_),
             "copy");
}

template <typename Working>
void CudaOps<Working>::add(Tensor y, ConstTensor a, ConstTensor b) {
  check(y.rows() == a.rows() && y.rows() == b.rows() && y.columns() == a.columns() &&
            y.columns() == b.columns(),
        "sum of tensors of one shape");
  // Activations, or gradients of parameters.
  if (y.dtype == DType::f32) {
    launch_add<float>(y, a, b, resident_blocks(), stream_);
  } else {
    launch_add<Working>(y, a, b, resident_blocks(), stream_);
  }
}

template void CudaOps<float>::zero(Tensor);
template void CudaOps<float>::copy(Tensor, ConstTensor);
template void CudaOps<float>::add(Tensor, ConstTensor, ConstTensor);
template void CudaOps<BFloat16>::zero(Tensor);
template void CudaOps<BFloat16>::copy(Tensor, ConstTensor);
template void CudaOps<BFloat16>::add(Tensor, ConstTensor, ConstTensor);

}  // namespace normlab
