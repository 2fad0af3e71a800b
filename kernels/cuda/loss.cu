// Cross-entropy and the step's loss.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/vector.h"
#include "kernels/formula.h"

namespace normlab {
namespace {

// e^x for x ≤ 0: the polynomial of formula.h in float, the device's own approximation in bf16.
template <typename T>
__device__ __forceinline__ float exponential_of(float x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return exp2_approximate(x * kLog2OfE);
  } else {
    return exponential(x);
  }
}

// The largest of some logits, and the sum of exponentials of what each is above it.
struct Exponentials {
  float largest;
  float sum;
};

// Over a row, by a block, in one reading: a thread raises what it has whenever a larger logit
// comes. Every thread has the result.
template <typename T, int kWidth>
__device__ __forceinline__ Exponentials exponentials_of(const T* logits, int64_t columns,
                                                        SharedArray<float> room) {
  float largest = -INFINITY;
  float sum = 0;
  for (int64_t column = int64_t{threadIdx.x} * kWidth; column < columns;
       column += int64_t{blockDim.x} * kWidth) {
    float x[kWidth];
    load(x, logits + column);
    float raised = largest;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) raised = fmaxf(raised, x[i]);
    // Not where nothing has come yet, or nothing but −∞; a NaN stays one.
    if (sum > 0) sum *= exponential_of<T>(largest - raised);
    largest = raised;
    const float shift = largest == -INFINITY ? 0.0f : largest;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum += exponential_of<T>(x[i] - shift);
  }
  const float overall = block_maximum(largest, room);
  const float share = largest == -INFINITY ? sum : sum * exponential_of<T>(largest - overall);
  return {overall, block_sum(share, room)};
}

// A block a row. The gradient is written where the logits were: a thread reads no logit of another
// after the barriers of the sums, and the target's before them.
template <typename T, int kWidth>
__global__ void cross_entropy_forward_kernel(float* losses, Rows<const T> logits,
                                             const int32_t* targets, int64_t rows,
                                             int64_t columns) {
  SharedMemory shared;
  const auto room = shared.take<float>(blockDim.x / kWarpSize);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const int32_t target = targets[row];
    float loss = 0;
    if (target >= 0) {
      const auto found = exponentials_of<T, kWidth>(logits[row], columns, room);
      float of_target[1];
      load(of_target, logits[row] + target);
      loss = logf(found.sum) + (found.largest - of_target[0]);
    }
    if (threadIdx.x == 0) losses[row] = loss;
  }
}

template <typename T, int kWidth>
__global__ void cross_entropy_backward_kernel(float* losses, Rows<T> logits, const int32_t* targets,
                                              const StepState* step, int64_t rows,
                                              int64_t columns) {
  SharedMemory shared;
  const auto room = shared.take<float>(blockDim.x / kWarpSize);
  const auto scale = static_cast<float>(step->loss_scale);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    T* x = logits[row];
    const int32_t target = targets[row];
    Exponentials found{0, 1};
    float loss = 0;
    if (target >= 0) {
      float of_target[1] = {};
      if (threadIdx.x == 0) load(of_target, x + target);
      found = exponentials_of<T, kWidth>(x, columns, room);
      loss = logf(found.sum) + (found.largest - of_target[0]);
    }
    if (threadIdx.x == 0) losses[row] = loss;
    const float factor = scale / found.sum;
    for (int64_t column = int64_t{threadIdx.x} * kWidth; column < columns;
         column += int64_t{blockDim.x} * kWidth) {
      float values[kWidth] = {};
      if (target >= 0) {
        load(values, x + column);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          values[i] = factor * exponential_of<T>(values[i] - found.largest);
          if (column + i == target) values[i] -= scale;
        }
      }
      store(x + column, values);
    }
  }
}

constexpr int kSumThreads = 256;

__global__ void __launch_bounds__(kSumThreads)
    add_loss_kernel(DeviceState* state, const float* losses, int64_t rows) {
  SharedMemory shared;
  const auto room = shared.take<double>(kSumThreads / kWarpSize);
  const double sum = block_sum_of(losses, rows, room);
  if (threadIdx.x == 0) state->loss += state->step.loss_scale * sum;
}

struct RowGrid {
  dim3 grid;
  dim3 block;
  int64_t shared_bytes;
};

// A block a row, as wide as the row has vectors, up to 512 threads.
RowGrid row_grid(int64_t rows, int64_t columns, int width, int64_t blocks) {
  constexpr int64_t kMostThreads = 512;
  const int64_t vectors = (columns + width - 1) / width;
  const int64_t warps =
      (vectors < kMostThreads ? vectors + kWarpSize - 1 : kMostThreads) / kWarpSize;
  return {dim3(static_cast<unsigned>(rows < blocks ? rows : blocks)),
          dim3(static_cast<unsigned>(warps * kWarpSize)),
          SharedMemory::shared_array_bytes<float>(warps)};
}

void check_shapes(ConstTensor losses, ConstTensor logits, ConstTensor targets) {
  check(losses.rows() == logits.rows() && targets.rows() == logits.rows(),
        "cross_entropy: losses (R,1), targets (R,1), logits (R,V)");
  check(losses.contiguous() && targets.contiguous(), "cross_entropy: contiguous losses, targets");
}

}  // namespace

template <typename Working>
void CudaOps<Working>::cross_entropy_forward(Tensor losses, ConstTensor logits,
                                             ConstTensor targets) {
  check_shapes(losses, logits, targets);
  with_vector_width<Working>({logits}, [&](auto width) {
    const RowGrid shape = row_grid(logits.rows(), logits.columns(), width, resident_blocks());
    launch("cross_entropy_forward", cross_entropy_forward_kernel<Working, width>,
           {shape.grid, shape.block, shape.shared_bytes, stream_}, losses.as<float>(),
           const_rows_of<Working>(logits), targets.as<int32_t>(), logits.rows(), logits.columns());
  });
}

template <typename Working>
void CudaOps<Working>::cross_entropy_backward(Tensor losses, Tensor logits, ConstTensor targets) {
  check_shapes(losses, logits, targets);
  with_vector_width<Working>({logits}, [&](auto width) {
    const RowGrid shape = row_grid(logits.rows(), logits.columns(), width, resident_blocks());
    launch("cross_entropy_backward", cross_entropy_backward_kernel<Working, width>,
           {shape.grid, shape.block, shape.shared_bytes, stream_}, losses.as<float>(),
           rows_of<Working>(logits), targets.as<int32_t>(), &state_->step, logits.rows(),
           logits.columns());
  });
}

template <typename Working>
void CudaOps<Working>::zero_loss() {
  check_cuda(cudaMemsetAsync(&state_->loss, 0, sizeof(state_->loss), stream_), "zero the loss");
  check_cuda(cudaMemsetAsync(&state_->std_loss, 0, sizeof(state_->std_loss), stream_),
             "zero the auxiliary loss");
}

template <typename Working>
void CudaOps<Working>::add_loss(ConstTensor losses) {
  check(losses.contiguous(), "add_loss: contiguous losses");
  launch("add_loss", add_loss_kernel,
         {dim3(1), dim3(kSumThreads),
          SharedMemory::shared_array_bytes<double>(kSumThreads / kWarpSize), stream_},
         state_, losses.as<float>(), losses.rows());
}

template <typename Working>
Tensor CudaOps<Working>::step_losses() {
  static_assert(offsetof(DeviceState, std_loss) == offsetof(DeviceState, loss) + sizeof(double));
  return Tensor(reinterpret_cast<std::byte*>(&state_->loss), DType::f64, {1, 2});
}

template void CudaOps<float>::cross_entropy_forward(Tensor, ConstTensor, ConstTensor);
template void CudaOps<float>::cross_entropy_backward(Tensor, Tensor, ConstTensor);
template void CudaOps<float>::zero_loss();
template void CudaOps<float>::add_loss(ConstTensor);
template Tensor CudaOps<float>::step_losses();
template void CudaOps<BFloat16>::cross_entropy_forward(Tensor, ConstTensor, ConstTensor);
template void CudaOps<BFloat16>::cross_entropy_backward(Tensor, Tensor, ConstTensor);
template void CudaOps<BFloat16>::zero_loss();
template void CudaOps<BFloat16>::add_loss(ConstTensor);
template Tensor CudaOps<BFloat16>::step_losses();

}  // namespace normlab
