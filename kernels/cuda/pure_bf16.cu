// Training in bf16 alone: its update, its sums of gradients, and what is elementwise of its third
// level.
#include <bit>
#include <vector>

#include "kernels/cuda/pure_bf16.h"
#include "kernels/cuda/rotation.h"
#include "kernels/formula.h"
#include "kernels/pure_adam.h"
#include "kernels/pure_bf16_rules.h"

namespace normlab {
namespace {

constexpr int kThreads = 256;

struct PureAdamArguments {
  BFloat16* value;
  float* first_moment;
  float* second_moment;
  const float* gradient;
  int64_t elements;
  AdamW settings;
};

__global__ void __launch_bounds__(kThreads)
    pure_adam_kernel(PureAdamArguments arguments, const StepState* state) {
  if (!state->finite) return;
  const PureAdam adam = pure_adam(*state, arguments.settings);
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < arguments.elements;
       i += stride) {
    float weight[1];
    load(weight, arguments.value + i);
    adam(weight[0], arguments.first_moment[i], arguments.second_moment[i], arguments.gradient[i]);
    store(arguments.value + i, weight);
  }
}

template <int kWidth>
__global__ void add_rounded_kernel(Rows<float> sum, Rows<const float> more, int64_t rows,
                                   int64_t columns) {
  for_each_vector<kWidth>(rows, columns, [&](int64_t row, int64_t column) {
    float to[kWidth], from[kWidth];
    load(to, sum[row] + column);
    load(from, more[row] + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) to[i] = stored(to[i] + stored(from[i]));
    store(sum[row] + column, to);
  });
}

template <int kWidth>
__global__ void pure_scaled_sum_kernel(Rows<BFloat16> y, Rows<const BFloat16> a,
                                       Rows<const BFloat16> b, float of_a, float of_b, int64_t rows,
                                       int64_t columns) {
  for_each_vector<kWidth>(rows, columns, [&](int64_t row, int64_t column) {
    float left[kWidth], right[kWidth];
    load(left, a[row] + column);
    load(right, b[row] + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) left[i] = stored(of_a * left[i]) + stored(of_b * right[i]);
    store(y[row] + column, left);
  });
}

// columns = F; the gate lies in columns [0, F) of gate_up, `up` in [F, 2F).
template <int kWidth>
__global__ void pure_swiglu_forward_kernel(Rows<BFloat16> y, Rows<const BFloat16> gate_up,
                                           int64_t rows, int64_t columns) {
  for_each_vector<kWidth>(rows, columns, [&](int64_t row, int64_t column) {
    float gate[kWidth], up[kWidth];
    load(gate, gate_up[row] + column);
    load(up, gate_up[row] + columns + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) up[i] *= stored(silu(gate[i]));
    store(y[row] + column, up);
  });
}

template <int kWidth>
__global__ void pure_swiglu_backward_kernel(Rows<BFloat16> d_gate_up, Rows<const BFloat16> d_y,
                                            Rows<const BFloat16> gate_up, int64_t rows,
                                            int64_t columns) {
  for_each_vector<kWidth>(rows, columns, [&](int64_t row, int64_t column) {
    float gate[kWidth], up[kWidth], gradient[kWidth];
    load(gate, gate_up[row] + column);
    load(up, gate_up[row] + columns + column);
    load(gradient, d_y[row] + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float d_activated = stored(gradient[i] * up[i]);
      up[i] = gradient[i] * stored(silu(gate[i]));
      gate[i] = d_activated * silu_derivative(gate[i]);
    }
    store(d_gate_up[row] + column, gate);
    store(d_gate_up[row] + columns + column, up);
  });
}

// columns = heads·D/2: a thread turns a pair (i, i + D/2) of one head.
__global__ void pure_rope_kernel(Rows<BFloat16> x, Rotation rotation, int64_t rows,
                                 int64_t columns) {
  for_each_vector<1>(rows, columns, [&](int64_t row, int64_t column) {
    const int pair = static_cast<int>(column) % rotation.half;
    BFloat16* const low = x[row] + 2 * (column - pair) + pair;
    const int64_t position = rotation.first_position + row % rotation.tokens;
    const float* const cosine = rotation.table + position * rotation.half + pair;
    const float sine = cosine[rotation.sines];
    float a[1], b[1];
    load(a, low);
    load(b, low + rotation.half);
    const float turned[1] = {stored(a[0] * *cosine) - rotation.sign * stored(b[0] * sine)};
    const float other[1] = {stored(b[0] * *cosine) + rotation.sign * stored(a[0] * sine)};
    store(low, turned);
    store(low + rotation.half, other);
  });
}

}  // namespace

// Weights are bf16 numbers without masters.
template <>
void CudaOps<BFloat16>::pure_adam_update(Tensor value, Tensor first_moment, Tensor second_moment,
                                         ConstTensor gradient, const AdamW& settings) {
  const PureAdamArguments arguments{value.as<BFloat16>(),      first_moment.as<float>(),
                                    second_moment.as<float>(), gradient.as<float>(),
                                    value.elements(),          settings};
  const int64_t wanted = (value.elements() + kThreads - 1) / kThreads;
  const int64_t blocks = wanted < resident_blocks() ? wanted : resident_blocks();
  launch("pure_adam", pure_adam_kernel,
         {dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream_}, arguments,
         &state_->step);
}

template <>
void CudaOps<BFloat16>::add_rounded(Tensor sum, ConstTensor more) {
  with_vector_width<float>({sum, more}, [&](auto width) {
    const ElementGrid shape = element_grid(sum.rows(), sum.columns(), width, resident_blocks());
    launch("add_rounded", add_rounded_kernel<width>, {shape.grid, shape.block, 0, stream_},
           rows_of<float>(sum), const_rows_of<float>(more), sum.rows(), sum.columns());
  });
}

CudaBf16ForwardOps::CudaBf16ForwardOps(std::unique_ptr<CudaOps<BFloat16>> ops)
    : ForwardingOps(*ops), cuda_(std::move(ops)) {}

void CudaBf16ForwardOps::scaled_sum(Tensor y, ConstTensor a, ConstTensor b,
                                    const SumFactors& factors) {
  if (!b) {
    ops().scaled_sum(y, a, b, factors);
    return;
  }
  with_vector_width<BFloat16>({y, a, b}, [&](auto width) {
    const ElementGrid shape = element_grid(y.rows(), y.columns(), width, cuda_->resident_blocks());
    launch("pure_scaled_sum", pure_scaled_sum_kernel<width>,
           {shape.grid, shape.block, 0, cuda_->stream_}, rows_of<BFloat16>(y),
           const_rows_of<BFloat16>(a), const_rows_of<BFloat16>(b), static_cast<float>(factors.a),
           static_cast<float>(factors.b), y.rows(), y.columns());
  });
}

void CudaBf16ForwardOps::swiglu_forward(Tensor y, ConstTensor gate_up) {
  check(gate_up.columns() == 2 * y.columns(), "swiglu_forward: y (N,F), gate_up (N,2F)");
  with_vector_width<BFloat16>({y, gate_up}, [&](auto width) {
    const ElementGrid shape = element_grid(y.rows(), y.columns(), width, cuda_->resident_blocks());
    launch("pure_swiglu_forward", pure_swiglu_forward_kernel<width>,
           {shape.grid, shape.block, 0, cuda_->stream_}, rows_of<BFloat16>(y),
           const_rows_of<BFloat16>(gate_up), y.rows(), y.columns());
  });
}

void CudaBf16ForwardOps::swiglu_backward(Tensor d_gate_up, ConstTensor d_y, ConstTensor gate_up) {
  check(gate_up.columns() == 2 * d_y.columns() && d_gate_up.columns() == gate_up.columns(),
        "swiglu_backward: d_gate_up (N,2F), d_y (N,F), gate_up (N,2F)");
  with_vector_width<BFloat16>({d_gate_up, d_y, gate_up}, [&](auto width) {
    const ElementGrid shape =
        element_grid(d_y.rows(), d_y.columns(), width, cuda_->resident_blocks());
    launch("pure_swiglu_backward", pure_swiglu_backward_kernel<width>,
           {shape.grid, shape.block, 0, cuda_->stream_}, rows_of<BFloat16>(d_gate_up),
           const_rows_of<BFloat16>(d_y), const_rows_of<BFloat16>(gate_up), d_y.rows(),
           d_y.columns());
  });
}

void CudaBf16ForwardOps::prepare_rotations(int64_t positions, int64_t head_size, double base) {
  if (rotation_positions_ >= positions && rotation_head_size_ == head_size &&
      rotation_base_ == base) {
    return;
  }
  positions = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(positions)));
  const int64_t half = head_size / 2;
  std::vector<float> table(static_cast<size_t>(2 * positions * half));
  fill_pure_rotations(table.data(), table.data() + positions * half, 0, positions, head_size, base);
  // The old table may still be read by what is enqueued.
  synchronize();
  rotations_ = allocate(static_cast<int64_t>(table.size() * sizeof(float)));
  upload(Tensor(rotations_.data(), DType::f32, {static_cast<int64_t>(table.size())}), table.data());
  rotation_positions_ = positions;
  rotation_head_size_ = head_size;
  rotation_base_ = base;
}

void CudaBf16ForwardOps::rope(Tensor x, int64_t tokens, int64_t head_size, double base,
                              int64_t first_position, RopeDirection direction) {
  check(head_size % 2 == 0 && x.columns() % head_size == 0, "rope: x (B·T, heads·D), D even");
  prepare_rotations(first_position + tokens, head_size, base);
  const int64_t half = head_size / 2;
  const Rotation rotation{reinterpret_cast<const float*>(rotations_.data()),
                          rotation_positions_ * half,
                          tokens,
                          first_position,
                          static_cast<int>(half),
                          direction == RopeDirection::forward ? 1.0f : -1.0f};
  const ElementGrid shape = element_grid(x.rows(), x.columns() / 2, 1, cuda_->resident_blocks());
  launch("pure_rope", pure_rope_kernel, {shape.grid, shape.block, 0, cuda_->stream_},
         rows_of<BFloat16>(x), rotation, x.rows(), x.columns() / 2);
}

}  // namespace normlab
