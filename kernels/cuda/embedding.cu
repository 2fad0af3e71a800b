// Token and position embeddings.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/vector.h"

namespace normlab {
namespace {

template <typename T, int kWidth>
__global__ void embedding_forward_kernel(Rows<T> x, const int32_t* ids, Rows<const T> token_table,
                                         Rows<const T> position_table, int64_t tokens,
                                         int64_t first_position, int64_t rows, int64_t columns) {
  for_each_vector<kWidth>(rows, columns, [&](int64_t row, int64_t column) {
    float sum[kWidth];
    load(sum, token_table[ids[row]] + column);
    if (position_table.present()) {
      float place[kWidth];
      load(place, position_table[first_position + row % tokens] + column);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum[i] += place[i];
    }
    store(x[row] + column, sum);
  });
}

// Bit l: row `base + l` has this token.
__device__ __forceinline__ uint32_t rows_with(int32_t token, const int32_t* ids, int64_t base,
                                              int64_t rows) {
  const int64_t row = base + lane_index();
  return warp_ballot(row < rows && ids[row] == token);
}

constexpr int kBackwardThreads = 256;

// A warp for each row and strip of 32·kWidth columns. The warp of the first row of a token adds up
// the gradients of all rows of that token, in their order, and alone writes them: no two warps
// share an element. The others leave as soon as they meet an earlier row of their token. Reads
// rows²/64 token ids for rows that are all different, fewer where tokens come again.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kBackwardThreads)
    token_backward_kernel(Rows<float> d_table, Rows<const T> d_x, const int32_t* ids, int64_t rows,
                          int64_t columns) {
  const int64_t own_row = int64_t{blockIdx.x} * (blockDim.x / kWarpSize) + warp_index();
  if (own_row >= rows) return;
  const int32_t token = ids[own_row];
  const int64_t own_base = own_row / kWarpSize * kWarpSize;
  for (int64_t base = 0; base < own_base; base += kWarpSize) {
    if (rows_with(token, ids, base, rows) != 0) return;
  }
  const int64_t column = (int64_t{blockIdx.y} * kWarpSize + lane_index()) * kWidth;
  float sum[kWidth] = {};
  for (int64_t base = own_base; base < rows; base += kWarpSize) {
    uint32_t found = rows_with(token, ids, base, rows);
    // An earlier row of the same 32.
    if (base == own_base && (found & ((1u << (own_row - own_base)) - 1)) != 0) return;
    for (int64_t row = base; found != 0; ++row, found >>= 1) {
      if ((found & 1) == 0 || column >= columns) continue;
      float gradient[kWidth];
      load(gradient, d_x[row] + column);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum[i] += gradient[i];
    }
  }
  if (column >= columns) return;
  float* target = d_table[token] + column;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) target[i] += sum[i];
}

// Rows are the positions of a sequence; a thread adds up all sequences.
template <typename T, int kWidth>
__global__ void position_backward_kernel(Rows<float> d_table, Rows<const T> d_x, int64_t batch,
                                         int64_t tokens, int64_t columns) {
  for_each_vector<kWidth>(tokens, columns, [&](int64_t position, int64_t column) {
    float sum[kWidth] = {};
    for (int64_t sequence = 0; sequence < batch; ++sequence) {
      float gradient[kWidth];
      load(gradient, d_x[sequence * tokens + position] + column);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum[i] += gradient[i];
    }
    float* target = d_table[position] + column;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) target[i] += sum[i];
  });
}

}  // namespace

template <typename Working>
void CudaOps<Working>::embedding_forward(Tensor x, ConstTensor tokens, ConstTensor token_table,
                                         ConstTensor position_table, int64_t first_position) {
  check(
      x.rows() == tokens.elements() && x.columns() == token_table.columns() && tokens.contiguous(),
      "embedding_forward: x (N,C), tokens (B,T), token_table (V,C)");
  check(!position_table || first_position + tokens.columns() <= position_table.rows(),
        "embedding_forward: positions within the table");
  with_vector_width<Working>({x, token_table, position_table}, [&](auto width) {
    const ElementGrid shape = element_grid(x.rows(), x.columns(), width, resident_blocks());
    launch("embedding_forward", embedding_forward_kernel<Working, width>,
           {shape.grid, shape.block, 0, stream_}, rows_of<Working>(x), tokens.as<int32_t>(),
           const_rows_of<Working>(token_table), const_rows_of<Working>(position_table),
           tokens.columns(), first_position, x.rows(), x.columns());
  });
}

template <typename Working>
void CudaOps<Working>::embedding_backward(Tensor d_token_table, Tensor d_position_table,
                                          ConstTensor d_x, ConstTensor tokens) {
  check(d_x.rows() == tokens.elements() && tokens.contiguous(),
        "embedding_backward: d_x (N,C), tokens (B,T)");
  const int64_t rows = d_x.rows();
  const int64_t columns = d_x.columns();
  with_vector_width<Working>({d_x}, [&](auto width) {
    constexpr int64_t kWarps = kBackwardThreads / kWarpSize;
    const int64_t strip = int64_t{kWarpSize} * width;
    const dim3 grid(static_cast<unsigned>((rows + kWarps - 1) / kWarps),
                    static_cast<unsigned>((columns + strip - 1) / strip));
    launch("token_backward", token_backward_kernel<Working, width>,
           {grid, dim3(kBackwardThreads), 0, stream_}, rows_of<float>(d_token_table),
           const_rows_of<Working>(d_x), tokens.as<int32_t>(), rows, columns);
    if (!d_position_table) return;
    const ElementGrid shape = element_grid(tokens.columns(), columns, width, resident_blocks());
    launch("position_backward", position_backward_kernel<Working, width>,
           {shape.grid, shape.block, 0, stream_}, rows_of<float>(d_position_table),
           const_rows_of<Working>(d_x), rows / tokens.columns(), tokens.columns(), columns);
  });
}

template void CudaOps<float>::embedding_forward(Tensor, ConstTensor, ConstTensor, ConstTensor,
                                                int64_t);
template void CudaOps<float>::embedding_backward(Tensor, Tensor, ConstTensor, ConstTensor);
template void CudaOps<BFloat16>::embedding_forward(Tensor, ConstTensor, ConstTensor, ConstTensor,
                                                   int64_t);
template void CudaOps<BFloat16>::embedding_backward(Tensor, Tensor, ConstTensor, ConstTensor);

}  // namespace normlab
