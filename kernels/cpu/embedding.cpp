// Token and position embeddings.
#include <algorithm>

#include "kernels/cpu/cpu_ops.h"

namespace normlab {

template <typename Scalar>
void CpuOps<Scalar>::embedding_forward(Tensor x, ConstTensor tokens, ConstTensor token_table,
                                       ConstTensor position_table, int64_t first_position) {
  check(
      x.rows() == tokens.elements() && x.columns() == token_table.columns() && tokens.contiguous(),
      "embedding_forward: x (N,C), tokens (B,T), token_table (V,C)");
  check(!position_table || first_position + tokens.columns() <= position_table.rows(),
        "embedding_forward: positions within the table");
  const int32_t* ids = tokens.as<int32_t>();
  const int64_t width = x.columns();
  parallel_ranges(threads_, x.rows(), 16, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) {
      Scalar* out = x.as<Scalar>() + row * x.row_stride;
      const Scalar* token = token_table.as<Scalar>() + ids[row] * token_table.row_stride;
      if (position_table) {
        const int64_t position = first_position + row % tokens.columns();
        const Scalar* place = position_table.as<Scalar>() + position * position_table.row_stride;
        for (int64_t c = 0; c < width; ++c) out[c] = token[c] + place[c];
      } else {
        std::copy(token, token + width, out);
      }
    }
  });
}

template <typename Scalar>
void CpuOps<Scalar>::embedding_backward(Tensor d_token_table, Tensor d_position_table,
                                        ConstTensor d_x, ConstTensor tokens) {
  const int32_t* ids = tokens.as<int32_t>();
  // One thread a strip of columns, all rows in order: no two threads share an element.
  constexpr int64_t kStrip = 32;
  parallel_ranges(threads_, d_x.columns(), kStrip, [&](int64_t first, int64_t last, int) {
    for (int64_t row = 0; row < d_x.rows(); ++row) {
      const Scalar* gradient = d_x.as<Scalar>() + row * d_x.row_stride;
      Scalar* token = d_token_table.as<Scalar>() + ids[row] * d_token_table.row_stride;
      for (int64_t c = first; c < last; ++c) token[c] += gradient[c];
      if (!d_position_table) continue;
      const int64_t position = row % tokens.columns();
      Scalar* place = d_position_table.as<Scalar>() + position * d_position_table.row_stride;
      for (int64_t c = first; c < last; ++c) place[c] += gradient[c];
    }
  });
}

template class CpuOps<float>;
template class CpuOps<double>;

}  // namespace normlab
