// Gradient norm, clipping and AdamW, all on the device.
#include "kernels/adamw.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/vector.h"

namespace normlab {
namespace {

constexpr int kThreads = 256;
// float vectors: gradients, masters and moments are float in every precision.
constexpr int kWidth = kVectorWidth<float>;

// A block for each kNormBlock elements. A thread adds 256 squares in float, in kWidth chains.
__global__ void __launch_bounds__(kThreads)
    sum_of_squares_kernel(float* partials, const float* gradient, int64_t elements) {
  SharedMemory shared;
  const auto room = shared.take<float>(kThreads / kWarpSize);
  const int64_t begin = int64_t{blockIdx.x} * Ops::kNormBlock;
  const int64_t end = begin + Ops::kNormBlock < elements ? begin + Ops::kNormBlock : elements;
  float sums[kWidth] = {};
  for (int64_t i = begin + int64_t{threadIdx.x} * kWidth; i < end; i += kThreads * kWidth) {
    float g[kWidth];
    if (i + kWidth <= end) {
      load(g, gradient + i);
    } else {
#pragma unroll
      for (int j = 0; j < kWidth; ++j) g[j] = i + j < end ? gradient[i + j] : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < kWidth; ++j) sums[j] += g[j] * g[j];
  }
  const float sum = block_sum((sums[0] + sums[1]) + (sums[2] + sums[3]), room);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads)
    finish_gradient_kernel(DeviceState* state, const float* partials, int64_t count) {
  SharedMemory shared;
  const auto room = shared.take<double>(kThreads / kWarpSize);
  const double sum = block_sum_of(partials, count, room);
  if (threadIdx.x != 0) return;
  StepState& step = state->step;
  step.gradient_norm = sqrt(sum);
  // A difference with itself is 0 for finite numbers alone.
  const double losses = state->loss + state->std_loss;
  step.finite = sum - sum == 0 && losses - losses == 0;
  const bool clips = step.gradient_clip > 0 && step.gradient_norm > step.gradient_clip;
  step.clip_scale = clips ? step.gradient_clip / step.gradient_norm : 1.0;
}

template <typename T>
struct AdamWArguments {
  T* value;
  float* master;  // or null: value is float and is updated itself
  float* first_moment;
  float* second_moment;
  const float* gradient;
  int64_t elements;
  AdamW settings;
};

// Bytes an element: 28 in float, 30 with a master and a bf16 value.
template <typename T, int kStep>
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(AdamWArguments<T> arguments, const StepState* state) {
  if (!state->finite) return;
  const AdamStep<float> step = adam_step<float>(*state, arguments.settings);
  const int64_t stride = int64_t{gridDim.x} * kThreads * kStep;
  for (int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kStep; i < arguments.elements;
       i += stride) {
    float weight[kStep], first[kStep], second[kStep], gradient[kStep];
    if constexpr (std::is_same_v<T, float>) {
      load(weight, arguments.value + i);
    } else {
      load(weight, arguments.master + i);
    }
    load(first, arguments.first_moment + i);
    load(second, arguments.second_moment + i);
    load(gradient, arguments.gradient + i);
#pragma unroll
    for (int j = 0; j < kStep; ++j) step(weight[j], first[j], second[j], gradient[j]);
    if constexpr (!std::is_same_v<T, float>) store(arguments.master + i, weight);
    store(arguments.value + i, weight);
    store(arguments.first_moment + i, first);
    store(arguments.second_moment + i, second);
  }
}

template <typename T, int kStep>
__global__ void __launch_bounds__(kThreads)
    round_weights_kernel(T* value, const float* master, int64_t elements) {
  const int64_t stride = int64_t{gridDim.x} * kThreads * kStep;
  for (int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kStep; i < elements;
       i += stride) {
    float x[kStep];
    load(x, master + i);
    store(value + i, x);
  }
}

// Calls body(step): kWidth elements a thread where all tensors allow it, else 1.
template <typename Body>
void with_step(std::initializer_list<ConstTensor> tensors, const Body& body) {
  for (const ConstTensor& tensor : tensors) {
    check(!tensor || tensor.contiguous(), "an update of flat tensors");
  }
  if (fits_vectors(kWidth, tensors)) {
    body(std::integral_constant<int, kWidth>{});
  } else {
    body(std::integral_constant<int, 1>{});
  }
}

LaunchShape flat_shape(int64_t elements, int step, int64_t blocks, cudaStream_t stream) {
  const int64_t wanted = (elements + kThreads * step - 1) / (kThreads * step);
  return {dim3(static_cast<unsigned>(wanted < blocks ? wanted : blocks)), dim3(kThreads), 0,
          stream};
}

}  // namespace

template <typename Working>
void CudaOps<Working>::sum_of_squares(Tensor partials, ConstTensor gradient) {
  const int64_t blocks = (gradient.elements() + kNormBlock - 1) / kNormBlock;
  check(partials.elements() == blocks, "sum_of_squares: one partial a block");
  check(fits_vectors(kWidth, {gradient.column_slice(0, gradient.columns() / kWidth * kWidth)}),
        "sum_of_squares: a gradient that begins at a multiple of 16 bytes");
  launch("sum_of_squares", sum_of_squares_kernel,
         {dim3(static_cast<unsigned>(blocks)), dim3(kThreads),
          SharedMemory::shared_array_bytes<float>(kThreads / kWarpSize), stream_},
         partials.as<float>(), gradient.as<float>(), gradient.elements());
}

template <typename Working>
void CudaOps<Working>::finish_gradient(ConstTensor partials) {
  launch("finish_gradient", finish_gradient_kernel,
         {dim3(1), dim3(kThreads), SharedMemory::shared_array_bytes<double>(kThreads / kWarpSize),
          stream_},
         state_, partials.as<float>(), partials.elements());
}

template <typename Working>
void CudaOps<Working>::round_weights(Tensor value, ConstTensor master) {
  check(has_masters() && value.elements() == master.elements(),
        "round_weights: as many weights as masters");
  if constexpr (!std::is_same_v<Working, float>) {
    with_step({value, master}, [&](auto step) {
      launch("round_weights", round_weights_kernel<Working, step>,
             flat_shape(value.elements(), step, resident_blocks(), stream_), value.as<Working>(),
             master.as<float>(), value.elements());
    });
  }
}

template <typename Working>
void CudaOps<Working>::adamw(Tensor value, Tensor master, Tensor first_moment, Tensor second_moment,
                             ConstTensor gradient, const AdamW& settings) {
  check(has_masters() == static_cast<bool>(master), "adamw: a master where weights have some");
  if constexpr (!std::is_same_v<Working, float>) {
    if (!has_masters()) {
      pure_adam_update(value, first_moment, second_moment, gradient, settings);
      return;
    }
  }
  const AdamWArguments<Working> arguments{value.as<Working>(),
                                          master ? master.as<float>() : nullptr,
                                          first_moment.as<float>(),
                                          second_moment.as<float>(),
                                          gradient.as<float>(),
                                          value.elements(),
                                          settings};
  with_step({value, master, first_moment, second_moment, gradient}, [&](auto step) {
    launch("adamw", adamw_kernel<Working, step>,
           flat_shape(value.elements(), step, resident_blocks(), stream_), arguments,
           &state_->step);
  });
}

template void CudaOps<float>::sum_of_squares(Tensor, ConstTensor);
template void CudaOps<float>::finish_gradient(ConstTensor);
template void CudaOps<float>::round_weights(Tensor, ConstTensor);
template void CudaOps<float>::adamw(Tensor, Tensor, Tensor, Tensor, ConstTensor, const AdamW&);
template void CudaOps<BFloat16>::sum_of_squares(Tensor, ConstTensor);
template void CudaOps<BFloat16>::finish_gradient(ConstTensor);
template void CudaOps<BFloat16>::round_weights(Tensor, ConstTensor);
template void CudaOps<BFloat16>::adamw(Tensor, Tensor, Tensor, Tensor, ConstTensor, const AdamW&);

}  // namespace normlab
