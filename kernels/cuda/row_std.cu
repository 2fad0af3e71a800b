// The std of rows: their sum, and the auxiliary loss that holds them together.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/vector.h"

namespace normlab {
namespace {

constexpr int kSumThreads = 256;
constexpr int64_t kSumBytes = SharedMemory::shared_array_bytes<double>(kSumThreads / kWarpSize);

// Rows of statistics by sequence and token.
struct Stds {
  Rows<const float> statistics;
  const int32_t* lengths;
  int64_t tokens;  // of a sequence, T

  __device__ __forceinline__ bool counts(int64_t row) const {
    return row % tokens < lengths[row / tokens];
  }
  __device__ __forceinline__ float std(int64_t row) const { return 1.0f / statistics[row][1]; }
};

Stds stds_of(ConstTensor statistics, ConstTensor lengths) {
  const int64_t tokens = statistics.rows() / lengths.rows();
  check(lengths.rows() * tokens == statistics.rows() && lengths.contiguous(),
        "stds: statistics (B·T,2), lengths (B,1), contiguous");
  return {const_rows_of<float>(statistics), lengths.as<int32_t>(), tokens};
}

// Σ term(row) over the rows [first, last), by one block; every thread has the result.
template <typename Term>
__device__ __forceinline__ double sum_of_rows(int64_t first, int64_t last, SharedArray<double> room,
                                              const Term& term) {
  double sum = 0;
  for (int64_t row = first + threadIdx.x; row < last; row += kSumThreads) sum += term(row);
  return block_sum(sum, room);
}

__global__ void __launch_bounds__(kSumThreads)
    add_stds_kernel(double* targets, Stds stds, SpecialRows is_special, int64_t rows) {
  SharedMemory shared;
  const auto room = shared.take<double>(kSumThreads / kWarpSize);
  const int kinds = is_special.tokens == nullptr ? 1 : 2;
  for (int kind = 0; kind < kinds; ++kind) {
    const double sum = sum_of_rows(0, rows, room, [&](int64_t row) {
      const bool asked = stds.counts(row) && is_special(row) == (kind == 1);
      return asked ? static_cast<double>(stds.std(row)) : 0.0;
    });
    if (threadIdx.x == 0) targets[kind] += sum;
  }
}

// Of a group, two numbers that follow each other in scratch: its target and its sum of losses. A
// block a group.
__global__ void __launch_bounds__(kSumThreads)
    std_targets_kernel(Scratch<double> groups, Stds stds, Rows<const int32_t> tokens,
                       StdLoss settings, int64_t rows) {
  SharedMemory shared;
  const auto room = shared.take<double>(kSumThreads / kWarpSize);
  const int64_t group = blockIdx.x;
  const int64_t first = group * settings.group * stds.tokens;
  const int64_t end = first + settings.group * stds.tokens;
  const int64_t last = end < rows ? end : rows;
  double target = settings.given_target;
  if (target <= 0) {
    const auto asked = [&](int64_t row) {
      const int64_t token = row % stds.tokens;
      return token > 0 && stds.counts(row) &&
             tokens[row / stds.tokens][token] != settings.end_of_text;
    };
    const double count =
        sum_of_rows(first, last, room, [&](int64_t row) { return asked(row) ? 1.0 : 0.0; });
    const double sum = sum_of_rows(first, last, room, [&](int64_t row) {
      return asked(row) ? static_cast<double>(stds.std(row)) : 0.0;
    });
    target = count > 0 ? sum / count : 1.0;
  }
  const double losses = sum_of_rows(first, last, room, [&](int64_t row) {
    if (!stds.counts(row)) return 0.0;
    const double distance = static_cast<double>(stds.std(row)) - target;
    return distance * distance;
  });
  if (threadIdx.x != 0) return;
  groups[2 * group] = target;
  groups[2 * group + 1] = losses;
}

// One thread: there are few groups.
__global__ void add_std_losses_kernel(DeviceState* state, Scratch<double> groups, int64_t count) {
  double sum = 0;
  for (int64_t group = 0; group < count; ++group) {
    sum += static_cast<double>(groups[2 * group + 1]);
  }
  state->std_loss += state->step.std_loss_scale * sum;
}

// Bytes: two reads and a write of (N,C).
template <typename T, int kWidth>
__global__ void std_loss_backward_kernel(Rows<T> d_x, Rows<const T> x, Stds stds,
                                         Scratch<double> groups, const StepState* step,
                                         int64_t group, int64_t rows, int64_t columns) {
  const auto scale = static_cast<float>(2 * step->std_loss_scale / static_cast<double>(columns));
  for_each_vector<kWidth>(rows, columns, [&](int64_t row, int64_t column) {
    if (!stds.counts(row)) return;
    const auto target =
        static_cast<float>(static_cast<double>(groups[2 * (row / stds.tokens / group)]));
    const float std = stds.std(row);
    const float factor = scale * (std - target) / std;
    const float mean = stds.statistics[row][0];
    float gradient[kWidth], values[kWidth];
    load(gradient, d_x[row] + column);
    load(values, x[row] + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) gradient[i] += factor * (values[i] - mean);
    store(d_x[row] + column, gradient);
  });
}

}  // namespace

template <typename Working>
void CudaOps<Working>::add_stds(Tensor sums, ConstTensor statistics, ConstTensor lengths,
                                const SpecialTokens& special) {
  launch("add_stds", add_stds_kernel, {dim3(1), dim3(kSumThreads), kSumBytes, stream_},
         sums.as<double>(), stds_of(statistics, lengths), special_rows_of(special),
         statistics.rows());
}

template <typename Working>
void CudaOps<Working>::add_std_loss(Tensor d_x, ConstTensor x, ConstTensor statistics,
                                    ConstTensor tokens, ConstTensor lengths,
                                    const StdLoss& settings) {
  const Stds stds = stds_of(statistics, lengths);
  const int64_t rows = statistics.rows();
  const int64_t count = (lengths.rows() + settings.group - 1) / settings.group;
  const Scratch<double> groups = scratch<double>(2 * count);
  launch("std_targets", std_targets_kernel,
         {dim3(static_cast<unsigned>(count)), dim3(kSumThreads), kSumBytes, stream_}, groups, stds,
         const_rows_of<int32_t>(tokens), settings, rows);
  launch("add_std_losses", add_std_losses_kernel, {dim3(1), dim3(1), 0, stream_}, state_, groups,
         count);
  with_vector_width<Working>({d_x, x}, [&](auto width) {
    const ElementGrid shape = element_grid(rows, x.columns(), width, resident_blocks());
    launch("std_loss_backward", std_loss_backward_kernel<Working, width>,
           {shape.grid, shape.block, 0, stream_}, rows_of<Working>(d_x), const_rows_of<Working>(x),
           stds, groups, &state_->step, settings.group, rows, x.columns());
  });
}

template void CudaOps<float>::add_stds(Tensor, ConstTensor, ConstTensor, const SpecialTokens&);
template void CudaOps<float>::add_std_loss(Tensor, ConstTensor, ConstTensor, ConstTensor,
                                           ConstTensor, const StdLoss&);
template void CudaOps<BFloat16>::add_stds(Tensor, ConstTensor, ConstTensor, const SpecialTokens&);
template void CudaOps<BFloat16>::add_std_loss(Tensor, ConstTensor, ConstTensor, ConstTensor,
                                              ConstTensor, const StdLoss&);

}  // namespace normlab
