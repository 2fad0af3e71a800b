// GELU, SwiGLU, rotary positions and dropout: one thread a vector, one pass over memory.
#include <bit>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dropout.h"
#include "kernels/cuda/rotation.h"
#include "kernels/cuda/vector.h"
#include "kernels/formula.h"
#include "kernels/rotation.h"

namespace normlab {
namespace {

template <typename T, int kWidth>
__global__ void gelu_forward_kernel(Rows<T> y, Rows<const T> x, int64_t rows, int64_t columns) {
  for_each_vector<kWidth>(rows, columns, [&](int64_t row, int64_t column) {
    float values[kWidth];
    load(values, x[row] + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) values[i] = gelu(values[i]);
    store(y[row] + column, values);
  });
}

template <typename T, int kWidth>
__global__ void gelu_backward_kernel(Rows<T> d_x, Rows<const T> d_y, Rows<const T> x, int64_t rows,
                                     int64_t columns) {
  for_each_vector<kWidth>(rows, columns, [&](int64_t row, int64_t column) {
    float values[kWidth], gradient[kWidth];
    load(values, x[row] + column);
    load(gradient, d_y[row] + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) gradient[i] *= gelu_derivative(values[i]);
    store(d_x[row] + column, gradient);
  });
}

// columns = F; the gate lies in columns [0, F) of gate_up, `up` in [F, 2F).
template <typename T, int kWidth>
__global__ void swiglu_forward_kernel(Rows<T> y, Rows<const T> gate_up, int64_t rows,
                                      int64_t columns) {
  for_each_vector<kWidth>(rows, columns, [&](int64_t row, int64_t column) {
    float gate[kWidth], up[kWidth];
    load(gate, gate_up[row] + column);
    load(up, gate_up[row] + columns + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) up[i] *= silu(gate[i]);
    store(y[row] + column, up);
  });
}

template <typename T, int kWidth>
__global__ void swiglu_backward_kernel(Rows<T> d_gate_up, Rows<const T> d_y, Rows<const T> gate_up,
                                       int64_t rows, int64_t columns) {
  for_each_vector<kWidth>(rows, columns, [&](int64_t row, int64_t column) {
    float gate[kWidth], up[kWidth], gradient[kWidth];
    load(gate, gate_up[row] + column);
    load(up, gate_up[row] + columns + column);
    load(gradient, d_y[row] + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float along_up = gradient[i] * silu(gate[i]);
      gate[i] = gradient[i] * up[i] * silu_derivative(gate[i]);
      up[i] = along_up;
    }
    store(d_gate_up[row] + column, gate);
    store(d_gate_up[row] + columns + column, up);
  });
}

// columns = heads·D/2: a thread turns kWidth pairs (i, i + D/2) of one head.
template <typename T, int kWidth>
__global__ void rope_kernel(Rows<T> x, Rotation rotation, int64_t rows, int64_t columns) {
  for_each_vector<kWidth>(rows, columns, [&](int64_t row, int64_t column) {
    const int half = rotation.half;
    const int pair = static_cast<int>(column) % half;
    T* low = x[row] + 2 * (column - pair) + pair;
    const int64_t position = rotation.first_position + row % rotation.tokens;
    const float* cosines = rotation.table + position * half + pair;
    const float* sines = cosines + rotation.sines;
    float a[kWidth], b[kWidth];
    load(a, low);
    load(b, low + half);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float sine = rotation.sign * sines[i];
      const float turned = a[i] * cosines[i] - sine * b[i];
      b[i] = b[i] * cosines[i] + sine * a[i];
      a[i] = turned;
    }
    store(low, a);
    store(low + half, b);
  });
}

template <typename T, int kWidth>
__global__ void dropout_kernel(Rows<T> y, Rows<const T> x, DropoutArguments dropout,
                               const StepState* step, int64_t tokens, int64_t rows,
                               int64_t columns) {
  for_each_vector<kWidth>(rows, columns, [&](int64_t row, int64_t column) {
    float values[kWidth], factors[kWidth];
    load(values, x[row] + column);
    dropout_factors(factors, dropout, sequence_key_of(*step, row / tokens),
                    row % tokens * columns + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) values[i] *= factors[i];
    store(y[row] + column, values);
  });
}

}  // namespace

template <typename Working>
void CudaOps<Working>::gelu_forward(Tensor y, ConstTensor x) {
  const Extents extents = extents_of({y, x});
  with_vector_width<Working>({y, x}, [&](auto width) {
    const ElementGrid shape = element_grid(extents.rows, extents.columns, width, resident_blocks());
    launch("gelu_forward", gelu_forward_kernel<Working, width>,
           {shape.grid, shape.block, 0, stream_}, rows_of<Working>(y), const_rows_of<Working>(x),
           extents.rows, extents.columns);
  });
}

template <typename Working>
void CudaOps<Working>::gelu_backward(Tensor d_x, ConstTensor d_y, ConstTensor x) {
  const Extents extents = extents_of({d_x, d_y, x});
  with_vector_width<Working>({d_x, d_y, x}, [&](auto width) {
    const ElementGrid shape = element_grid(extents.rows, extents.columns, width, resident_blocks());
    launch("gelu_backward", gelu_backward_kernel<Working, width>,
           {shape.grid, shape.block, 0, stream_}, rows_of<Working>(d_x),
           const_rows_of<Working>(d_y), const_rows_of<Working>(x), extents.rows, extents.columns);
  });
}

template <typename Working>
void CudaOps<Working>::swiglu_forward(Tensor y, ConstTensor gate_up) {
  check(gate_up.columns() == 2 * y.columns(), "swiglu_forward: y (N,F), gate_up (N,2F)");
  with_vector_width<Working>({y, gate_up}, [&](auto width) {
    const ElementGrid shape = element_grid(y.rows(), y.columns(), width, resident_blocks());
    launch("swiglu_forward", swiglu_forward_kernel<Working, width>,
           {shape.grid, shape.block, 0, stream_}, rows_of<Working>(y),
           const_rows_of<Working>(gate_up), y.rows(), y.columns());
  });
}

template <typename Working>
void CudaOps<Working>::swiglu_backward(Tensor d_gate_up, ConstTensor d_y, ConstTensor gate_up) {
  check(gate_up.columns() == 2 * d_y.columns() && d_gate_up.columns() == gate_up.columns(),
        "swiglu_backward: d_gate_up (N,2F), d_y (N,F), gate_up (N,2F)");
  with_vector_width<Working>({d_gate_up, d_y, gate_up}, [&](auto width) {
    const ElementGrid shape = element_grid(d_y.rows(), d_y.columns(), width, resident_blocks());
    launch("swiglu_backward", swiglu_backward_kernel<Working, width>,
           {shape.grid, shape.block, 0, stream_}, rows_of<Working>(d_gate_up),
           const_rows_of<Working>(d_y), const_rows_of<Working>(gate_up), d_y.rows(), d_y.columns());
  });
}

// On the host; anew only for more positions, another head size or base.
template <typename Working>
void CudaOps<Working>::prepare_rotations(int64_t positions, int64_t head_size, double base) {
  if (rotation_positions_ >= positions && rotation_head_size_ == head_size &&
      rotation_base_ == base) {
    return;
  }
  // Generation asks for one position more each time.
  positions = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(positions)));
  const int64_t half = head_size / 2;
  std::vector<float> table(static_cast<size_t>(2 * positions * half));
  fill_rotations(table.data(), table.data() + positions * half, positions, head_size, base);
  // The old table may still be read by what is enqueued.
  synchronize();
  rotations_ = allocate(static_cast<int64_t>(table.size() * sizeof(float)));
  upload(Tensor(rotations_.data(), DType::f32, {static_cast<int64_t>(table.size())}), table.data());
  rotation_positions_ = positions;
  rotation_head_size_ = head_size;
  rotation_base_ = base;
}

template <typename Working>
void CudaOps<Working>::rope(Tensor x, int64_t tokens, int64_t head_size, double base,
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
  const auto with = [&](auto width) {
    const ElementGrid shape = element_grid(x.rows(), x.columns() / 2, width, resident_blocks());
    launch("rope", rope_kernel<Working, width>, {shape.grid, shape.block, 0, stream_},
           rows_of<Working>(x), rotation, x.rows(), x.columns() / 2);
  };
  // Both halves of a head begin at a whole vector, or none does.
  constexpr int kWidth = kVectorWidth<Working>;
  if (half % kWidth == 0 && fits_vectors(kWidth, {x})) {
    with(std::integral_constant<int, kWidth>{});
  } else {
    with(std::integral_constant<int, 1>{});
  }
}

template <typename Working>
void CudaOps<Working>::dropout(Tensor y, ConstTensor x, int64_t batch, const Dropout& dropout) {
  check(batch > 0 && x.rows() % batch == 0, "dropout: rows of whole sequences");
  with_vector_width<Working>({y, x}, [&](auto width) {
    const ElementGrid shape = element_grid(x.rows(), x.columns(), width, resident_blocks());
    launch("dropout", dropout_kernel<Working, width>, {shape.grid, shape.block, 0, stream_},
           rows_of<Working>(y), const_rows_of<Working>(x), dropout_arguments(dropout),
           &state_->step, x.rows() / batch, x.rows(), x.columns());
  });
}

template void CudaOps<float>::gelu_forward(Tensor, ConstTensor);
template void CudaOps<float>::gelu_backward(Tensor, ConstTensor, ConstTensor);
template void CudaOps<float>::swiglu_forward(Tensor, ConstTensor);
template void CudaOps<float>::swiglu_backward(Tensor, ConstTensor, ConstTensor);
template void CudaOps<float>::prepare_rotations(int64_t, int64_t, double);
template void CudaOps<float>::rope(Tensor, int64_t, int64_t, double, int64_t, RopeDirection);
template void CudaOps<float>::dropout(Tensor, ConstTensor, int64_t, const Dropout&);
template void CudaOps<BFloat16>::gelu_forward(Tensor, ConstTensor);
template void CudaOps<BFloat16>::gelu_backward(Tensor, ConstTensor, ConstTensor);
template void CudaOps<BFloat16>::swiglu_forward(Tensor, ConstTensor);
template void CudaOps<BFloat16>::swiglu_backward(Tensor, ConstTensor, ConstTensor);
template void CudaOps<BFloat16>::prepare_rotations(int64_t, int64_t, double);
template void CudaOps<BFloat16>::rope(Tensor, int64_t, int64_t, double, int64_t, RopeDirection);
template void CudaOps<BFloat16>::dropout(Tensor, ConstTensor, int64_t, const Dropout&);

}  // namespace normlab
