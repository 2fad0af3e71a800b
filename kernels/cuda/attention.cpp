// Attention's verbs on a GPU.
#include "kernels/cuda/attention.h"

#include <cmath>
#include <limits>

#include "kernels/cuda/cuda_ops.h"

namespace normlab {
namespace {

constexpr int kMostHeadSize = 128;

AttentionSizes sizes_of(const AttentionShape& shape, RowAccess access) {
  constexpr int64_t kMost = std::numeric_limits<int>::max() / 2;
  check(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0 &&
            shape.key_tokens >= shape.query_tokens && shape.key_tokens < kMost,
        "attention: kv_heads divides heads, keys are at least as many as queries");
  if (shape.head_size > kMostHeadSize) {
    throw Error("attention on a GPU has no kernel for heads of " + std::to_string(shape.head_size) +
                " (they hold at most " + std::to_string(kMostHeadSize) +
                "). Use more heads, or device: cpu");
  }
  const double scale = 1 / std::sqrt(static_cast<double>(shape.head_size));
  return {shape.batch,
          static_cast<int>(shape.query_tokens),
          static_cast<int>(shape.key_tokens),
          static_cast<int>(shape.heads),
          static_cast<int>(shape.kv_heads),
          static_cast<int>(shape.head_size),
          static_cast<float>(scale),
          static_cast<float>(scale * kLog2OfE),
          access};
}

// Whole vectors where every head of every tensor begins with one.
template <typename Working>
RowAccess access_of(int64_t head_size, std::initializer_list<ConstTensor> tensors) {
  constexpr int kWidth = kVectorWidth<Working>;
  return head_size % kWidth == 0 && fits_vectors(kWidth, tensors) ? RowAccess::vectors
                                                                  : RowAccess::elements;
}

AttentionMask mask_of(const Dropout& dropout, const StepState* step) {
  return {dropout_arguments(dropout), dropout.probability > 0 ? step : nullptr};
}

}  // namespace

template <typename Working>
void CudaOps<Working>::attention_forward(Tensor z, Tensor lse, ConstTensor q, ConstTensor k,
                                         ConstTensor v, const AttentionShape& shape,
                                         const Dropout& dropout) {
  const AttentionForward<Working> call{
      rows_of<Working>(z),
      rows_of<float>(lse),
      const_rows_of<Working>(q),
      const_rows_of<Working>(k),
      const_rows_of<Working>(v),
      sizes_of(shape, access_of<Working>(shape.head_size, {z, q, k, v})),
      mask_of(dropout, &state_->step)};
  if (shape.batch == 0 || shape.query_tokens == 0) return;
  enqueue_forward(call, stream_);
}

template <typename Working>
void CudaOps<Working>::attention_backward(Tensor d_q, Tensor d_k, Tensor d_v, ConstTensor d_z,
                                          ConstTensor z, ConstTensor lse, ConstTensor q,
                                          ConstTensor k, ConstTensor v, const AttentionShape& shape,
                                          const Dropout& dropout) {
  check(shape.key_tokens == shape.query_tokens, "attention_backward: as many keys as queries");
  const AttentionGradient<Working> call{
      rows_of<Working>(d_q),
      rows_of<Working>(d_k),
      rows_of<Working>(d_v),
      const_rows_of<Working>(d_z),
      const_rows_of<Working>(z),
      const_rows_of<float>(lse),
      const_rows_of<Working>(q),
      const_rows_of<Working>(k),
      const_rows_of<Working>(v),
      sizes_of(shape, access_of<Working>(shape.head_size, {d_q, d_k, d_v, d_z, z, q, k, v})),
      mask_of(dropout, &state_->step)};
  if (shape.batch == 0 || shape.query_tokens == 0) return;
  const Scratch<float> delta = scratch<float>(shape.batch * shape.heads * shape.query_tokens);
  enqueue_d_queries(call, delta, stream_);
  enqueue_d_keys(call, delta, stream_);
}

template void CudaOps<float>::attention_forward(Tensor, Tensor, ConstTensor, ConstTensor,
                                                ConstTensor, const AttentionShape&, const Dropout&);
template void CudaOps<float>::attention_backward(Tensor, Tensor, Tensor, ConstTensor, ConstTensor,
                                                 ConstTensor, ConstTensor, ConstTensor, ConstTensor,
                                                 const AttentionShape&, const Dropout&);
template void CudaOps<BFloat16>::attention_forward(Tensor, Tensor, ConstTensor, ConstTensor,
                                                   ConstTensor, const AttentionShape&,
                                                   const Dropout&);
template void CudaOps<BFloat16>::attention_backward(Tensor, Tensor, Tensor, ConstTensor,
                                                    ConstTensor, ConstTensor, ConstTensor,
                                                    ConstTensor, ConstTensor, const AttentionShape&,
                                                    const Dropout&);

}  // namespace normlab
