// Training in bf16 alone, third level: the verbs that add along rows or over them.
#include "kernels/cuda/pure_bf16.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/vector.h"
#include "kernels/pure_bf16_rules.h"

namespace normlab {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kRowsOfBlock = 64;  // of a sum over rows
constexpr int64_t kRoomBytes = SharedMemory::shared_array_bytes<float>(kThreads / kWarpSize);
constexpr int64_t kDoubleRoomBytes = SharedMemory::shared_array_bytes<double>(kThreads / kWarpSize);

__device__ __forceinline__ float number(const BFloat16* place) {
  float x[1];
  load(x, place);
  return x[0];
}
__device__ __forceinline__ void put(BFloat16* place, float x) {
  const float numbers[1] = {x};
  store(place, numbers);
}

// LayerNorm Scaling multiplies what the norm gives; its gradient comes back through that product.
__device__ __forceinline__ float scaled(float x, float scale) {
  return scale == 1 ? x : stored(x * scale);
}

struct PureNorm {
  Rows<const BFloat16> x;
  Rows<const float> statistics;
  const BFloat16* gain;
  float scale;
  int64_t rows;
  int64_t columns;

  // x/rms of an element, as it goes into the product with the gain.
  __device__ __forceinline__ float normalized(int64_t row, int64_t column) const {
    return stored(number(x[row] + column) * statistics[row][1]);
  }
};

PureNorm pure_norm(ConstTensor x, ConstTensor statistics, const Norm& norm) {
  return {const_rows_of<BFloat16>(x),
          const_rows_of<float>(statistics),
          norm.gain.as<BFloat16>(),
          static_cast<float>(norm.scale),
          x.rows(),
          x.columns()};
}

__global__ void pure_norm_forward_kernel(Rows<BFloat16> normed, PureNorm norm) {
  for_each_vector<1>(norm.rows, norm.columns, [&](int64_t row, int64_t column) {
    const float product = stored(number(norm.gain + column) * norm.normalized(row, column));
    put(normed[row] + column, scaled(product, norm.scale));
  });
}

// A thread a column, a block kRowsOfBlock rows or more: partials (blocks, C).
__global__ void __launch_bounds__(kThreads)
    pure_norm_gain_kernel(Scratch<float> partials, PureNorm norm, Rows<const BFloat16> d_normed,
                          int64_t rows_of_block) {
  const int64_t column = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (column >= norm.columns) return;
  const int64_t first = int64_t{blockIdx.y} * rows_of_block;
  const int64_t last = first + rows_of_block < norm.rows ? first + rows_of_block : norm.rows;
  float total = 0;
  for (int64_t row = first; row < last; ++row) {
    const float d_product = scaled(number(d_normed[row] + column), norm.scale);
    total += stored(d_product * norm.normalized(row, column));
  }
  partials[int64_t{blockIdx.y} * norm.columns + column] = total;
}

// A block a row. Autograd adds, each time rounded: what came past the norm, then x's part of
// x·(1/rms), then that of 1/rms, whose gradient is in float.
__global__ void __launch_bounds__(kThreads)
    pure_norm_backward_kernel(Rows<BFloat16> d_sum, PureNorm norm, Rows<const BFloat16> d_normed,
                              Rows<const BFloat16> d_residual) {
  SharedMemory shared;
  const auto room = shared.take<float>(kThreads / kWarpSize);
  for (int64_t row = blockIdx.x; row < norm.rows; row += gridDim.x) {
    const float inverse = norm.statistics[row][1];
    const auto d_normalized = [&](int64_t column) {
      const float d_product = scaled(number(d_normed[row] + column), norm.scale);
      return stored(d_product * number(norm.gain + column));
    };
    float projection = 0;
    for (int64_t column = threadIdx.x; column < norm.columns; column += kThreads) {
      projection += d_normalized(column) * number(norm.x[row] + column);
    }
    projection = block_sum(projection, room);
    const float d_variance = -0.5f * projection * (inverse * inverse * inverse);
    for (int64_t column = threadIdx.x; column < norm.columns; column += kThreads) {
      const float x = number(norm.x[row] + column);
      float d = stored(d_normalized(column) * inverse);
      if (d_residual.present()) d = stored(number(d_residual[row] + column) + d);
      const float through_mean = d_variance / static_cast<float>(norm.columns) * (2 * x);
      put(d_sum[row] + column, d + stored(through_mean));
    }
  }
}

// log softmax, rounded, of a row's elements.
struct LogProbabilities {
  float largest;
  float log_sum;

  // By a block; every thread has them.
  __device__ __forceinline__ LogProbabilities(const BFloat16* logits, int64_t columns,
                                              SharedArray<float> room,
                                              SharedArray<double> wide_room) {
    float most = -INFINITY;
    for (int64_t column = threadIdx.x; column < columns; column += kThreads) {
      most = fmaxf(most, number(logits + column));
    }
    largest = block_maximum(most, room);
    double sum = 0;
    for (int64_t column = threadIdx.x; column < columns; column += kThreads) {
      sum += static_cast<double>(expf(number(logits + column) - largest));
    }
    log_sum = static_cast<float>(log(block_sum(sum, wide_room)));
  }
  __device__ __forceinline__ float operator()(float logit) const {
    return stored(logit - largest - log_sum);
  }
};

// A block a row; with `gradient`, its logits become their gradient.
__global__ void __launch_bounds__(kThreads)
    pure_cross_entropy_kernel(float* losses, Rows<const BFloat16> logits, Rows<BFloat16> gradient,
                              const int32_t* targets, const StepState* state, int64_t rows,
                              int64_t columns) {
  SharedMemory shared;
  const auto wide_room = shared.take<double>(kThreads / kWarpSize);
  const auto room = shared.take<float>(kThreads / kWarpSize);
  const float scale = gradient_scale(*state);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const int32_t target = targets[row];
    if (target < 0) {
      if (threadIdx.x == 0) losses[row] = 0;
      for (int64_t c = threadIdx.x; gradient.present() && c < columns; c += kThreads) {
        put(gradient[row] + c, 0);
      }
      continue;
    }
    const LogProbabilities found(logits[row], columns, room, wide_room);
    if (threadIdx.x == 0) losses[row] = -found(number(logits[row] + target));
    if (!gradient.present()) continue;
    __syncthreads();  // the target's logit has been read
    for (int64_t c = threadIdx.x; c < columns; c += kThreads) {
      const float target_part = c == target ? scale : 0.0f;
      put(gradient[row] + c, expf(found(number(logits[row] + c))) * scale - target_part);
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    pure_loss_kernel(float* loss, const float* losses, const StepState* state, int64_t rows) {
  SharedMemory shared;
  const auto room = shared.take<double>(kThreads / kWarpSize);
  const double sum = block_sum_of(losses, rows, room);
  if (threadIdx.x == 0) *loss = rounded_loss(state->loss_scale, sum);
}

unsigned blocks_for(int64_t rows, int64_t resident) {
  return static_cast<unsigned>(rows < resident ? rows : resident);
}

}  // namespace

void CudaBf16ForwardOps::residual_norm_forward(Tensor sum, Tensor normed, Tensor statistics,
                                               ConstTensor residual, ConstTensor branch,
                                               const Norm& norm) {
  ops().residual_norm_forward(sum, normed, statistics, residual, branch, norm);
  if (!is_reference_norm(norm)) return;
  const ConstTensor x = sum ? ConstTensor(sum) : residual;
  const ElementGrid shape = element_grid(x.rows(), x.columns(), 1, cuda_->resident_blocks());
  launch("pure_norm_forward", pure_norm_forward_kernel,
         {shape.grid, shape.block, 0, cuda_->stream_}, rows_of<BFloat16>(normed),
         pure_norm(x, statistics, norm));
}

void CudaBf16ForwardOps::residual_norm_backward(Tensor d_sum, Tensor d_gain, Tensor d_bias,
                                                ConstTensor d_normed, ConstTensor d_residual,
                                                ConstTensor sum, ConstTensor statistics,
                                                const Norm& norm) {
  if (!is_reference_norm(norm)) {
    ops().residual_norm_backward(d_sum, d_gain, d_bias, d_normed, d_residual, sum, statistics,
                                 norm);
    return;
  }
  const PureNorm arguments = pure_norm(sum, statistics, norm);
  const int64_t rows = sum.rows(), columns = sum.columns();
  const int64_t most = cuda_->resident_blocks();
  const int64_t wanted = (rows + kRowsOfBlock - 1) / kRowsOfBlock;
  const int64_t rows_of_block = wanted <= most ? kRowsOfBlock : (rows + most - 1) / most;
  const int64_t blocks = (rows + rows_of_block - 1) / rows_of_block;
  const auto partials = cuda_->scratch<float>(blocks * columns);
  // Before d_sum, which may be where d_normed is.
  launch("pure_norm_gain", pure_norm_gain_kernel,
         {dim3(static_cast<unsigned>((columns + kThreads - 1) / kThreads),
               static_cast<unsigned>(blocks)),
          dim3(kThreads), 0, cuda_->stream_},
         partials, arguments, const_rows_of<BFloat16>(d_normed), rows_of_block);
  cuda_->add_partials(d_gain, partials, blocks, columns, 0);
  launch("pure_norm_backward", pure_norm_backward_kernel,
         {dim3(blocks_for(rows, most)), dim3(kThreads), kRoomBytes, cuda_->stream_},
         rows_of<BFloat16>(d_sum), arguments, const_rows_of<BFloat16>(d_normed),
         const_rows_of<BFloat16>(d_residual));
}

void CudaBf16ForwardOps::cross_entropy_forward(Tensor losses, ConstTensor logits,
                                               ConstTensor targets) {
  launch("pure_cross_entropy_forward", pure_cross_entropy_kernel,
         {dim3(blocks_for(logits.rows(), cuda_->resident_blocks())), dim3(kThreads),
          kRoomBytes + kDoubleRoomBytes, cuda_->stream_},
         losses.as<float>(), const_rows_of<BFloat16>(logits), Rows<BFloat16>{},
         targets.as<int32_t>(), &cuda_->state_->step, logits.rows(), logits.columns());
}

void CudaBf16ForwardOps::cross_entropy_backward(Tensor losses, Tensor logits, ConstTensor targets) {
  launch("pure_cross_entropy_backward", pure_cross_entropy_kernel,
         {dim3(blocks_for(logits.rows(), cuda_->resident_blocks())), dim3(kThreads),
          kRoomBytes + kDoubleRoomBytes, cuda_->stream_},
         losses.as<float>(), const_rows_of<BFloat16>(logits), rows_of<BFloat16>(logits),
         targets.as<int32_t>(), &cuda_->state_->step, logits.rows(), logits.columns());
}

void CudaBf16ForwardOps::add_loss(ConstTensor losses) {
  if (loss_.bytes() == 0) loss_ = ops().allocate(size_of(DType::f32));
  const Tensor loss(loss_.data(), DType::f32, {1, 1});
  check(losses.contiguous(), "add_loss: contiguous losses");
  launch("pure_loss", pure_loss_kernel, {dim3(1), dim3(kThreads), kDoubleRoomBytes, cuda_->stream_},
         loss.as<float>(), losses.as<float>(), &cuda_->state_->step, losses.rows());
  ops().add_loss(loss);
}

}  // namespace normlab
