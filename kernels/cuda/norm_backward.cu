// Residual sum and norm, backward; kernels/cpu/norm.cpp does the same in plain loops.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/norm.h"

namespace normlab {
namespace {

template <typename T>
struct BackwardArguments {
  Rows<T> d_sum;
  Rows<const T> d_normed;
  Rows<const T> d_residual;  // or absent
  Rows<const T> sum;
  Rows<const float> statistics;
  int64_t rows;
  int64_t columns;
  NormParameters<T> norm;
};

constexpr int kMostThreads = 512;  // leaves each 128 registers
constexpr int kRowsAtOnce = 2;     // whose sums share one barrier
constexpr int kSumsOfRow = 2;      // Σ g and Σ g·(x − mean)

// Where the warps of a block add up their rows' sums: twice, so that one barrier a turn is enough.
class RowSums {
 public:
  __device__ __forceinline__ explicit RowSums(SharedMemory& shared)
      : warps_(static_cast<int>(blockDim.x) / kWarpSize),
        room_(shared.take<float>(floats(warps_))) {}
  static constexpr int64_t floats(int64_t warps) { return 2 * warps * kRowsAtOnce * kSumsOfRow; }

  // Every thread brings its part and receives the sum over the block.
  __device__ __forceinline__ void operator()(float (&parts)[kRowsAtOnce][kSumsOfRow]) {
#pragma unroll
    for (int r = 0; r < kRowsAtOnce; ++r) {
#pragma unroll
      for (int s = 0; s < kSumsOfRow; ++s) {
        parts[r][s] = warp_sum(parts[r][s]);
        if (lane_index() == 0) room_[place(warp_index(), r, s)] = parts[r][s];
      }
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < kRowsAtOnce; ++r) {
#pragma unroll
      for (int s = 0; s < kSumsOfRow; ++s) {
        parts[r][s] = 0;
        for (int warp = 0; warp < warps_; ++warp) {
          parts[r][s] += static_cast<float>(room_[place(warp, r, s)]);
        }
      }
    }
    turn_ = 1 - turn_;
  }

 private:
  __device__ __forceinline__ int place(int warp, int row, int sum) const {
    return ((turn_ * warps_ + warp) * kRowsAtOnce + row) * kSumsOfRow + sum;
  }
  int warps_;
  SharedArray<float> room_;
  int turn_ = 0;
};

// What a thread owns of a row: kGroups vectors, vector g at column (g·threads + thread)·kWidth.
template <int kWidth, int kGroups>
struct OwnColumns {
  static constexpr int kCount = kWidth * kGroups;

  static __device__ __forceinline__ int64_t column(int group) {
    return int64_t{group * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)} * kWidth;
  }
  // x[group·kWidth + i]; 0 beyond the row.
  template <typename T>
  static __device__ __forceinline__ void load_all(float (&x)[kCount], const T* row,
                                                  int64_t columns) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      float part[kWidth] = {};
      if (column(g) < columns) load(part, row + column(g));
#pragma unroll
      for (int i = 0; i < kWidth; ++i) x[g * kWidth + i] = part[i];
    }
  }
  template <typename T>
  static __device__ __forceinline__ void store_all(T* row, const float (&x)[kCount],
                                                   int64_t columns) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      float part[kWidth];
#pragma unroll
      for (int i = 0; i < kWidth; ++i) part[i] = x[g * kWidth + i];
      if (column(g) < columns) store(row + column(g), part);
    }
  }
};

// A row as the backward pass holds it.
template <int kCount>
struct BackwardRow {
  float centred[kCount];   // x − mean
  float gradient[kCount];  // scale · d_normed
  float inverse_std = 0;
};

template <typename T, int kWidth, int kGroups>
__device__ __forceinline__ void read_row(BackwardRow<kWidth * kGroups>& held,
                                         const BackwardArguments<T>& arguments, int64_t row) {
  using Own = OwnColumns<kWidth, kGroups>;
  const bool there = row < arguments.rows;
  const int64_t columns = there ? arguments.columns : 0;
  Own::load_all(held.centred, arguments.sum[there ? row : 0], columns);
  Own::load_all(held.gradient, arguments.d_normed[there ? row : 0], columns);
  const float mean = there ? arguments.statistics[row][0] : 0.0f;
  held.inverse_std = there ? arguments.statistics[row][1] : 0.0f;
#pragma unroll
  for (int i = 0; i < Own::kCount; ++i) {
    held.centred[i] -= mean;
    held.gradient[i] *= arguments.norm.scale;
  }
}

// A block takes kRowsAtOnce rows at a time, a thread the same columns of all of them, so that the
// sums of d_gain and d_bias stay in registers; partials (blocks, 2, C) leave at the end.
//   g = scale · gain · d_y;  i = the inverse in use
//   d_x = i·(g − mean(g)) − live/std³·(x − mean)·mean(g·(x − mean)) + d_residual
// (no mean(g) for rmsnorm). Bytes: 3 reads and 1 write of (N,C).
template <typename T, int kWidth, int kGroups>
__global__ void __launch_bounds__(kMostThreads)
    residual_norm_backward_kernel(BackwardArguments<T> arguments, Scratch<float> partials) {
  using Own = OwnColumns<kWidth, kGroups>;
  SharedMemory shared;
  RowSums sum_rows(shared);
  const NormParameters<T>& norm = arguments.norm;
  const NormGate gate(norm);
  const auto width = static_cast<float>(arguments.columns);
  float gain[Own::kCount], d_gain[Own::kCount] = {}, d_bias[Own::kCount] = {};
  Own::load_all(gain, norm.gain, arguments.columns);

  for (int64_t first = int64_t{blockIdx.x} * kRowsAtOnce; first < arguments.rows;
       first += int64_t{gridDim.x} * kRowsAtOnce) {
    BackwardRow<Own::kCount> held[kRowsAtOnce];
    float sums[kRowsAtOnce][kSumsOfRow] = {};
#pragma unroll
    for (int r = 0; r < kRowsAtOnce; ++r) {
      read_row<T, kWidth, kGroups>(held[r], arguments, first + r);
      const int64_t row = first + r < arguments.rows ? first + r : first;
      const float inverse = gate(held[r].inverse_std, row);
#pragma unroll
      for (int i = 0; i < Own::kCount; ++i) {
        d_gain[i] += held[r].gradient[i] * held[r].centred[i] * inverse;
        d_bias[i] += held[r].gradient[i];
        held[r].gradient[i] *= gain[i];
        sums[r][0] += held[r].gradient[i];
        sums[r][1] += held[r].gradient[i] * held[r].centred[i];
      }
    }
    sum_rows(sums);
#pragma unroll
    for (int r = 0; r < kRowsAtOnce; ++r) {
      if (first + r >= arguments.rows) continue;
      const float inverse_std = held[r].inverse_std;
      const float inverse = gate(inverse_std, first + r);
      const float mean = norm.centred ? sums[r][0] / width : 0.0f;
      const float along =
          gate.live * inverse_std * inverse_std * inverse_std * (sums[r][1] / width);
      float d_x[Own::kCount] = {};
      if (arguments.d_residual.present()) {
        Own::load_all(d_x, arguments.d_residual[first + r], arguments.columns);
      }
#pragma unroll
      for (int i = 0; i < Own::kCount; ++i) {
        d_x[i] += inverse * (held[r].gradient[i] - mean) - along * held[r].centred[i];
      }
      Own::store_all(arguments.d_sum[first + r], d_x, arguments.columns);
    }
  }

#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const int64_t column = Own::column(g) + i;
      if (column >= arguments.columns) continue;
      const int64_t place = 2 * int64_t{blockIdx.x} * arguments.columns + column;
      partials[place] = d_gain[g * kWidth + i];
      partials[place + arguments.columns] = d_bias[g * kWidth + i];
    }
  }
}

}  // namespace

template <typename Working>
void CudaOps<Working>::residual_norm_backward(Tensor d_sum, Tensor d_gain, Tensor d_bias,
                                              ConstTensor d_normed, ConstTensor d_residual,
                                              ConstTensor sum, ConstTensor statistics,
                                              const Norm& norm) {
  const int64_t columns = sum.columns();
  const BackwardArguments<Working> arguments{rows_of<Working>(d_sum),
                                             const_rows_of<Working>(d_normed),
                                             const_rows_of<Working>(d_residual),
                                             const_rows_of<Working>(sum),
                                             const_rows_of<float>(statistics),
                                             sum.rows(),
                                             columns,
                                             norm_parameters_of<Working>(norm)};
  constexpr int kWidth = kVectorWidth<Working>;
  constexpr int kGroups = 8 / kWidth;  // 8 columns a thread
  const bool vectors = fits_vectors(kWidth, {d_sum, d_normed, d_residual, sum, norm.gain});
  const int64_t owners = (columns + 7) / 8;
  const int64_t threads = (owners + kWarpSize - 1) / kWarpSize * kWarpSize;
  if (threads > kMostThreads) {
    throw Error("a norm of " + std::to_string(columns) + " columns (at most " +
                std::to_string(8 * kMostThreads) + " on a GPU)");
  }
  const int64_t wanted = (sum.rows() + kRowsAtOnce - 1) / kRowsAtOnce;
  const int64_t blocks = wanted < resident_blocks() ? wanted : resident_blocks();
  const Scratch<float> partials = scratch<float>(blocks * 2 * columns);
  const LaunchShape shape{
      dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads)),
      SharedMemory::shared_array_bytes<float>(RowSums::floats(threads / kWarpSize)), stream_};
  const auto with = [&](auto kernel) {
    launch("residual_norm_backward", kernel, shape, arguments, partials);
  };
  if (vectors) {
    with(residual_norm_backward_kernel<Working, kWidth, kGroups>);
  } else {
    with(residual_norm_backward_kernel<Working, 1, 8>);
  }
  add_partials(d_gain, partials, blocks, 2 * columns, 0);
  if (d_bias) add_partials(d_bias, partials, blocks, 2 * columns, columns);
}

template void CudaOps<float>::residual_norm_backward(Tensor, Tensor, Tensor, ConstTensor,
                                                     ConstTensor, ConstTensor, ConstTensor,
                                                     const Norm&);
template void CudaOps<BFloat16>::residual_norm_backward(Tensor, Tensor, Tensor, ConstTensor,
                                                        ConstTensor, ConstTensor, ConstTensor,
                                                        const Norm&);

}  // namespace normlab
