// Residual sum and norm, forward; kernels/cpu/norm.cpp does the same in plain loops.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/norm.h"

namespace normlab {
namespace {

template <typename T>
struct ForwardArguments {
  Rows<T> sum;  // or absent
  Rows<T> normed;
  Rows<float> statistics;
  Rows<const T> residual;
  Rows<const T> branch;  // or absent
  int64_t rows;
  int64_t columns;
  NormParameters<T> norm;
};

// A row in the hands of a warp: vector i of lane l begins at column (32·i + l)·kWidth. The first
// kHeld vectors of a lane stay in registers, what is beyond is read again (by the lane that wrote
// it).
template <typename T, int kWidth, int kHeld>
class WarpRow {
 public:
  // Reads residual + branch, rounded; stores it where there is a sum.
  __device__ __forceinline__ WarpRow(const ForwardArguments<T>& arguments, int64_t row)
      : columns_(arguments.columns),
        again_(arguments.sum.present() ? arguments.sum[row] : arguments.residual[row]) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int64_t column = column_of(i);
      if (column < columns_) read(held_[i], arguments, row, column);
    }
    for (int64_t column = column_of(kHeld); column < columns_; column += kWarpSize * kWidth) {
      float x[kWidth];
      read(x, arguments, row, column);
    }
  }

  // body(column, x) for each of the lane's vectors.
  template <typename Body>
  __device__ __forceinline__ void for_each(const Body& body) const {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      if (column_of(i) < columns_) body(column_of(i), held_[i]);
    }
    for (int64_t column = column_of(kHeld); column < columns_; column += kWarpSize * kWidth) {
      float x[kWidth];
      load(x, again_ + column);
      body(column, x);
    }
  }

 private:
  static __device__ __forceinline__ int64_t column_of(int vector) {
    return int64_t{vector * kWarpSize + lane_index()} * kWidth;
  }
  static __device__ __forceinline__ void read(float (&x)[kWidth],
                                              const ForwardArguments<T>& arguments, int64_t row,
                                              int64_t column) {
    load(x, arguments.residual[row] + column);
    if (arguments.branch.present()) {
      float branch[kWidth];
      load(branch, arguments.branch[row] + column);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) x[i] = rounded<T>(x[i] + branch[i]);
    }
    if (arguments.sum.present()) store(arguments.sum[row] + column, x);
  }

  int64_t columns_;
  const T* again_;
  float held_[kHeld][kWidth];
};

struct RowStatistics {
  float mean;
  float inverse_std;
};

// Two passes: E[x²] − E[x]² cancels on a residual stream with outliers.
template <typename Row, typename T>
__device__ __forceinline__ RowStatistics statistics_of(const Row& row, int64_t columns,
                                                       const NormParameters<T>& norm) {
  const auto width = static_cast<float>(columns);
  float mean = 0;
  if (norm.centred) {
    float total = 0;
    row.for_each([&](int64_t, const auto& x) {
      for (const float value : x) total += value;
    });
    mean = warp_sum(total) / width;
  }
  float squares = 0;
  row.for_each([&](int64_t, const auto& x) {
    for (const float value : x) squares += (value - mean) * (value - mean);
  });
  return {mean, 1.0f / sqrtf(warp_sum(squares) / width + norm.epsilon)};
}

constexpr int kForwardThreads = 256;

// A warp a row. Bytes: 2 reads and 2 writes of (N,C), and 8 bytes of statistics a row.
template <typename T, int kWidth, int kHeld>
__global__ void __launch_bounds__(kForwardThreads)
    residual_norm_forward_kernel(ForwardArguments<T> arguments) {
  const NormParameters<T>& norm = arguments.norm;
  const int64_t warps = int64_t{gridDim.x} * (blockDim.x / kWarpSize);
  for (int64_t row = int64_t{blockIdx.x} * (blockDim.x / kWarpSize) + warp_index();
       row < arguments.rows; row += warps) {
    const WarpRow<T, kWidth, kHeld> values(arguments, row);
    const RowStatistics found = statistics_of(values, arguments.columns, norm);
    if (lane_index() == 0) {
      arguments.statistics[row][0] = found.mean;
      arguments.statistics[row][1] = found.inverse_std;
    }
    // Read anew for each row: kept, it would push others out of the registers.
    const float inverse = NormGate(norm)(found.inverse_std, row);
    values.for_each([&](int64_t column, const float(&x)[kWidth]) {
      float gain[kWidth], y[kWidth], bias[kWidth] = {};
      load(gain, norm.gain + column);
      if (norm.bias != nullptr) load(bias, norm.bias + column);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        y[i] = norm.scale * ((x[i] - found.mean) * inverse * gain[i] + bias[i]);
      }
      store(arguments.normed[row] + column, y);
    });
  }
}

template <typename Working>
void launch_forward(const ForwardArguments<Working>& arguments, bool vectors, int64_t blocks,
                    cudaStream_t stream) {
  constexpr int kWidth = kVectorWidth<Working>;
  constexpr int64_t kWarps = kForwardThreads / kWarpSize;
  const int64_t wanted = (arguments.rows + kWarps - 1) / kWarps;
  const LaunchShape shape{dim3(static_cast<unsigned>(wanted < blocks ? wanted : blocks)),
                          dim3(kForwardThreads), 0, stream};
  const auto with = [&](auto kernel) { launch("residual_norm_forward", kernel, shape, arguments); };
  // 32 numbers a lane (1024 columns), or 64; more would spill.
  if (!vectors) {
    with(residual_norm_forward_kernel<Working, 1, 8>);
  } else if (arguments.columns <= 1024) {
    with(residual_norm_forward_kernel<Working, kWidth, 32 / kWidth>);
  } else {
    with(residual_norm_forward_kernel<Working, kWidth, 64 / kWidth>);
  }
}

}  // namespace

template <typename Working>
void CudaOps<Working>::residual_norm_forward(Tensor sum, Tensor normed, Tensor statistics,
                                             ConstTensor residual, ConstTensor branch,
                                             const Norm& norm) {
  check(!branch || sum, "residual_norm_forward: a sum where there is a branch");
  const ForwardArguments<Working> arguments{rows_of<Working>(sum),
                                            rows_of<Working>(normed),
                                            rows_of<float>(statistics),
                                            const_rows_of<Working>(residual),
                                            const_rows_of<Working>(branch),
                                            residual.rows(),
                                            residual.columns(),
                                            norm_parameters_of<Working>(norm)};
  const bool vectors =
      fits_vectors(kVectorWidth<Working>, {sum, normed, residual, branch, norm.gain, norm.bias});
  launch_forward(arguments, vectors, resident_blocks(), stream_);
}

template void CudaOps<float>::residual_norm_forward(Tensor, Tensor, Tensor, ConstTensor,
                                                    ConstTensor, const Norm&);
template void CudaOps<BFloat16>::residual_norm_forward(Tensor, Tensor, Tensor, ConstTensor,
                                                       ConstTensor, const Norm&);

}  // namespace normlab
