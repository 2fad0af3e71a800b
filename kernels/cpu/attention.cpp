// Causal attention by blocks of query rows: a block's scores (64, T_k) live in a thread's scratch,
// the (T,T) matrix nowhere. Backward computes them again from the log-sum-exp (Dao et al. 2022).
#include <algorithm>
#include <cmath>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/formula.h"

namespace normlab {
namespace {

constexpr int64_t kBlockQueries = 64;

template <typename Scalar>
struct Head {
  const Scalar* data;
  int64_t stride;
  Matrix<const Scalar> rows_from(int64_t row, Transpose transpose = Transpose::no) const {
    return {data + row * stride, stride, transpose};
  }
};

// The (tokens, D) part of one head of one sequence.
template <typename Scalar>
Head<Scalar> head_of(ConstTensor x, int64_t sequence, int64_t tokens, int64_t head, int64_t size) {
  return {x.as<Scalar>() + sequence * tokens * x.row_stride + head * size, x.row_stride};
}

template <typename Scalar>
Matrix<Scalar> head_of(Tensor x, int64_t sequence, int64_t tokens, int64_t head, int64_t size) {
  return {x.as<Scalar>() + sequence * tokens * x.row_stride + head * size, x.row_stride};
}

// The key/value head that a query head reads.
int64_t kv_head_of(const AttentionShape& shape, int64_t head) {
  return head * shape.kv_heads / shape.heads;
}

// A block of queries: rows [first, first + rows), of which the last sees `keys` keys.
struct QueryBlock {
  int64_t first;
  int64_t rows;
  int64_t keys;
  int64_t visible(const AttentionShape& shape, int64_t row) const {
    return shape.key_tokens - shape.query_tokens + first + row + 1;
  }
};

QueryBlock block_at(const AttentionShape& shape, int64_t first) {
  const int64_t rows = std::min(kBlockQueries, shape.query_tokens - first);
  return {first, rows, shape.key_tokens - shape.query_tokens + first + rows};
}

// Scores to exponentials of (score − their maximum), 0 where masked; returns the log-sum-exp and
// leaves 1/sum in *inverse_sum.
template <typename Scalar>
Scalar softmax_row(Scalar* row, int64_t visible, int64_t keys, Scalar* inverse_sum) {
  Scalar largest = row[0];
#pragma omp simd reduction(max : largest)
  for (int64_t j = 0; j < visible; ++j) largest = std::max(largest, row[j]);
  Scalar sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < visible; ++j) {
    const Scalar e = exponential(row[j] - largest);
    row[j] = e;
    sum += e;
  }
  std::fill(row + visible, row + keys, Scalar(0));
  *inverse_sum = 1 / sum;
  return largest + std::log(sum);
}

}  // namespace

template <typename Scalar>
void CpuOps<Scalar>::attention_forward(Tensor z, Tensor lse, ConstTensor q, ConstTensor k,
                                       ConstTensor v, const AttentionShape& shape,
                                       const Dropout& dropout) {
  check(shape.heads % shape.kv_heads == 0 && shape.key_tokens >= shape.query_tokens,
        "attention: kv_heads divides heads, keys are at least as many as queries");
  const int64_t size = shape.head_size;
  const int64_t blocks = (shape.query_tokens + kBlockQueries - 1) / kBlockQueries;
  const Scalar scale = 1 / std::sqrt(static_cast<Scalar>(size));
  reserve_scratch((kBlockQueries + 1) * shape.key_tokens + kBlockQueries);
  parallel_for(threads_, shape.batch * shape.heads * blocks, [&](int64_t piece, int thread) {
    // The longest rows first: they would else be the last to finish.
    const QueryBlock block = block_at(shape, (blocks - 1 - piece % blocks) * kBlockQueries);
    const int64_t head = piece / blocks % shape.heads;
    const int64_t sequence = piece / blocks / shape.heads;
    const int64_t kv_head = kv_head_of(shape, head);
    const auto queries = head_of<Scalar>(q, sequence, shape.query_tokens, head, size);
    const auto keys = head_of<Scalar>(k, sequence, shape.key_tokens, kv_head, size);
    const auto values = head_of<Scalar>(v, sequence, shape.key_tokens, kv_head, size);
    auto out = head_of<Scalar>(z, sequence, shape.query_tokens, head, size);
    out.data += block.first * out.stride;

    Scalar* scores = scratch(thread);
    Scalar* factors = scores + block.rows * block.keys;
    Scalar* inverse_sums = factors + block.keys;
    gemm<Scalar>(1, block.rows, block.keys, size, scale, queries.rows_from(block.first),
                 keys.rows_from(0, Transpose::yes), Store::replace, {scores, block.keys});
    Scalar* lse_row =
        lse.as<Scalar>() + (sequence * shape.heads + head) * lse.row_stride + block.first;
    for (int64_t i = 0; i < block.rows; ++i) {
      Scalar* row = scores + i * block.keys;
      const int64_t visible = block.visible(shape, i);
      lse_row[i] = softmax_row(row, visible, block.keys, &inverse_sums[i]);
      if (dropout.probability > 0) {
        const int64_t query = head * shape.query_tokens + block.first + i;
        dropout_factors(factors, dropout, sequence, query * shape.key_tokens, visible);
        for (int64_t j = 0; j < visible; ++j) row[j] *= factors[j];
      }
    }
    gemm<Scalar>(1, block.rows, size, block.keys, 1, {scores, block.keys}, values.rows_from(0),
                 Store::replace, out);
    for (int64_t i = 0; i < block.rows; ++i) {
      for (int64_t c = 0; c < size; ++c) out.data[i * out.stride + c] *= inverse_sums[i];
    }
  });
}

// One block of queries of one head: d_q of its rows, and what it adds to d_k and d_v.
template <typename Scalar>
void CpuOps<Scalar>::attention_backward_block(const AttentionBackward& call, int64_t sequence,
                                              int64_t head, int64_t first_query, int thread) {
  const AttentionShape& shape = call.shape;
  const QueryBlock block = block_at(shape, first_query);
  const int64_t size = shape.head_size;
  const int64_t tokens = shape.query_tokens;
  const int64_t kv_head = kv_head_of(shape, head);
  const Scalar scale = 1 / std::sqrt(static_cast<Scalar>(size));
  const auto queries = head_of<Scalar>(call.q, sequence, tokens, head, size);
  const auto keys = head_of<Scalar>(call.k, sequence, tokens, kv_head, size);
  const auto values = head_of<Scalar>(call.v, sequence, tokens, kv_head, size);
  const auto d_out = head_of<Scalar>(call.d_z, sequence, tokens, head, size);
  const auto out = head_of<Scalar>(call.z, sequence, tokens, head, size);
  const int64_t area = block.rows * block.keys;
  Scalar* probabilities = scratch(thread);
  Scalar* gradients = probabilities + area;
  Scalar* factors = gradients + area;
  const Scalar* lse_row =
      call.lse.as<Scalar>() + (sequence * shape.heads + head) * call.lse.row_stride + block.first;
  gemm<Scalar>(1, block.rows, block.keys, size, scale, queries.rows_from(block.first),
               keys.rows_from(0, Transpose::yes), Store::replace, {probabilities, block.keys});
  gemm<Scalar>(1, block.rows, block.keys, size, 1, d_out.rows_from(block.first),
               values.rows_from(0, Transpose::yes), Store::replace, {gradients, block.keys});
  for (int64_t i = 0; i < block.rows; ++i) {
    Scalar* p = probabilities + i * block.keys;
    Scalar* d_s = gradients + i * block.keys;
    const int64_t visible = block.visible(shape, i);
    const Scalar* d_o = d_out.rows_from(block.first + i).data;
    const Scalar* o = out.rows_from(block.first + i).data;
    Scalar delta = 0;
#pragma omp simd reduction(+ : delta)
    for (int64_t c = 0; c < size; ++c) delta += d_o[c] * o[c];
    const Scalar shift = lse_row[i];
    if (call.dropout.probability > 0) {
      const int64_t query = head * tokens + block.first + i;
      dropout_factors(factors, call.dropout, sequence, query * tokens, visible);
    } else {
      std::fill(factors, factors + visible, Scalar(1));
    }
#pragma omp simd
    for (int64_t j = 0; j < visible; ++j) {
      const Scalar probability = exponential(p[j] - shift);
      d_s[j] = probability * (d_s[j] * factors[j] - delta);
      p[j] = probability * factors[j];
    }
    std::fill(p + visible, p + block.keys, Scalar(0));
    std::fill(d_s + visible, d_s + block.keys, Scalar(0));
  }
  auto d_queries = head_of<Scalar>(call.d_q, sequence, tokens, head, size);
  d_queries.data += block.first * d_queries.stride;
  gemm<Scalar>(1, block.rows, size, block.keys, scale, {gradients, block.keys}, keys.rows_from(0),
               Store::replace, d_queries);
  gemm<Scalar>(1, block.keys, size, block.rows, scale, {gradients, block.keys, Transpose::yes},
               queries.rows_from(block.first), Store::add,
               head_of<Scalar>(call.d_k, sequence, tokens, kv_head, size));
  gemm<Scalar>(1, block.keys, size, block.rows, 1, {probabilities, block.keys, Transpose::yes},
               d_out.rows_from(block.first), Store::add,
               head_of<Scalar>(call.d_v, sequence, tokens, kv_head, size));
}

template <typename Scalar>
void CpuOps<Scalar>::attention_backward(Tensor d_q, Tensor d_k, Tensor d_v, ConstTensor d_z,
                                        ConstTensor z, ConstTensor lse, ConstTensor q,
                                        ConstTensor k, ConstTensor v, const AttentionShape& shape,
                                        const Dropout& dropout) {
  check(shape.key_tokens == shape.query_tokens, "attention_backward: as many keys as queries");
  const AttentionBackward call{d_q, d_k, d_v, d_z, z, lse, q, k, v, shape, dropout};
  const int64_t tokens = shape.query_tokens;
  const int64_t group = shape.heads / shape.kv_heads;
  reserve_scratch((2 * kBlockQueries + 1) * tokens);
  // A key/value head belongs to one thread, which adds its blocks in order.
  parallel_for(threads_, shape.batch * shape.kv_heads, [&](int64_t piece, int thread) {
    const int64_t sequence = piece / shape.kv_heads;
    const int64_t kv_head = piece % shape.kv_heads;
    for (const Tensor& gradient : {d_k, d_v}) {
      const auto rows = head_of<Scalar>(gradient, sequence, tokens, kv_head, shape.head_size);
      for (int64_t row = 0; row < tokens; ++row) {
        std::fill_n(rows.data + row * rows.stride, shape.head_size, Scalar(0));
      }
    }
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (int64_t first = 0; first < tokens; first += kBlockQueries) {
        attention_backward_block(call, sequence, head, first, thread);
      }
    }
  });
}

template class CpuOps<float>;
template class CpuOps<double>;

}  // namespace normlab
