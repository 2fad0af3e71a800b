// Attention without tensor cores: a warp a query, or a key, every number in float. Exact and slow;
// what it holds in registers does not depend on the sequence's length, and nothing is atomic.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/reduce.h"
#include "kernels/formula.h"

namespace normlab {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kHeld = 4;  // elements of a head that a lane has: lane, lane + 32, … below 128

// A vector of a head, spread over the lanes of a warp; 0 beyond the head.
struct HeadVector {
  float x[kHeld] = {};

  static __device__ __forceinline__ HeadVector read(const float* source, int size) {
    HeadVector vector;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int at = lane_index() + i * kWarpSize;
      if (at < size) vector.x[i] = source[at];
    }
    return vector;
  }
  __device__ __forceinline__ void write(float* target, int size, float factor) const {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int at = lane_index() + i * kWarpSize;
      if (at < size) target[at] = x[i] * factor;
    }
  }
  __device__ __forceinline__ float dot(const HeadVector& other) const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) sum += x[i] * other.x[i];
    return warp_sum(sum);
  }
  // this = this·scale + other·factor
  __device__ __forceinline__ void accumulate(float scale, const HeadVector& other, float factor) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) x[i] = x[i] * scale + other.x[i] * factor;
  }
};

// The token, head and sequence of a warp; the warps beyond the last have none.
struct WarpPlace {
  int token;
  int head;
  int64_t sequence;
  bool exists;
};
__device__ __forceinline__ WarpPlace warp_place(int64_t batch, int heads, int tokens) {
  const int64_t warp = int64_t{blockIdx.x} * kWarps + warp_index();
  return {static_cast<int>(warp % tokens), static_cast<int>(warp / tokens % heads),
          warp / tokens / heads, warp < batch * heads * tokens};
}

// What dropout makes of a probability: 0 or 1/(1 − p), 1 where there is none.
__device__ __forceinline__ float mask_factor(const AttentionMask& mask, int64_t sequence,
                                             int64_t probability) {
  if (mask.step == nullptr) return 1;
  float factor[1];
  dropout_factors(factor, mask.dropout, sequence_key_of(*mask.step, sequence), probability);
  return factor[0];
}

// A warp a query: softmax in one pass over the keys (Milakov & Gimelshein 2018, algorithm 3).
__global__ void __launch_bounds__(kThreads) forward_kernel(AttentionForward<float> call) {
  const AttentionSizes& sizes = call.sizes;
  const WarpPlace at = warp_place(sizes.batch, sizes.heads, sizes.query_tokens);
  if (!at.exists) return;
  const int size = sizes.head_size;
  const int kv_head = at.head / (sizes.heads / sizes.kv_heads);
  const auto keys = head_rows(call.k, at.sequence, sizes.key_tokens, kv_head, size);
  const auto values = head_rows(call.v, at.sequence, sizes.key_tokens, kv_head, size);
  const auto queries = head_rows(call.q, at.sequence, sizes.query_tokens, at.head, size);
  const HeadVector query = HeadVector::read(queries[at.token], size);
  const int visible = sizes.key_tokens - sizes.query_tokens + at.token + 1;
  HeadVector sum;
  float largest = -INFINITY;
  float total = 0;
  for (int key = 0; key < visible; ++key) {
    const float score = sizes.scale * query.dot(HeadVector::read(keys[key], size));
    const float raised = fmaxf(largest, score);
    const float fading = exponential(largest - raised);
    const float weight = exponential(score - raised);
    const float factor =
        mask_factor(call.mask, at.sequence, first_probability(sizes, at.head, at.token) + key);
    total = total * fading + weight;
    sum.accumulate(fading, HeadVector::read(values[key], size), weight * factor);
    largest = raised;
  }
  const auto z = head_rows(call.z, at.sequence, sizes.query_tokens, at.head, size);
  sum.write(z[at.token], size, 1 / total);
  if (lane_index() == 0) {
    call.lse[at.sequence * sizes.heads + at.head][at.token] = largest + logf(total);
  }
}

// A warp a query: d_q, and delta = Σ d_z·z.
__global__ void __launch_bounds__(kThreads)
    d_queries_kernel(AttentionGradient<float> call, Scratch<float> delta) {
  const AttentionSizes& sizes = call.sizes;
  const WarpPlace at = warp_place(sizes.batch, sizes.heads, sizes.query_tokens);
  if (!at.exists) return;
  const int size = sizes.head_size;
  const int tokens = sizes.query_tokens;
  const int kv_head = at.head / (sizes.heads / sizes.kv_heads);
  const auto of = [&](Rows<const float> rows, int head) {
    return head_rows(rows, at.sequence, tokens, head, size);
  };
  const auto keys = of(call.k, kv_head);
  const auto values = of(call.v, kv_head);
  const HeadVector query = HeadVector::read(of(call.q, at.head)[at.token], size);
  const HeadVector d_z = HeadVector::read(of(call.d_z, at.head)[at.token], size);
  const float own_delta = d_z.dot(HeadVector::read(of(call.z, at.head)[at.token], size));
  const int64_t row = at.sequence * sizes.heads + at.head;
  if (lane_index() == 0) delta[row * tokens + at.token] = own_delta;
  const float shift = call.lse[row][at.token];
  HeadVector d_query;
  for (int key = 0; key <= at.token; ++key) {
    const HeadVector k = HeadVector::read(keys[key], size);
    const float probability = exponential(sizes.scale * query.dot(k) - shift);
    const float d_probability = d_z.dot(HeadVector::read(values[key], size));
    const float factor =
        mask_factor(call.mask, at.sequence, first_probability(sizes, at.head, at.token) + key);
    d_query.accumulate(1, k, probability * (d_probability * factor - own_delta));
  }
  d_query.write(head_rows(call.d_q, at.sequence, tokens, at.head, size)[at.token], size,
                sizes.scale);
}

// A warp a key and value: d_k and d_v over all query heads that read it, in their order.
__global__ void __launch_bounds__(kThreads)
    d_keys_kernel(AttentionGradient<float> call, Scratch<float> delta) {
  const AttentionSizes& sizes = call.sizes;
  const int tokens = sizes.query_tokens;
  const WarpPlace at = warp_place(sizes.batch, sizes.kv_heads, tokens);
  if (!at.exists) return;
  const int size = sizes.head_size;
  const int group = sizes.heads / sizes.kv_heads;
  const auto of = [&](Rows<const float> rows, int head) {
    return head_rows(rows, at.sequence, tokens, head, size);
  };
  const HeadVector key = HeadVector::read(of(call.k, at.head)[at.token], size);
  const HeadVector value = HeadVector::read(of(call.v, at.head)[at.token], size);
  HeadVector d_key, d_value;
  for (int head = at.head * group; head < (at.head + 1) * group; ++head) {
    const auto queries = of(call.q, head);
    const auto gradients = of(call.d_z, head);
    const int64_t row = at.sequence * sizes.heads + head;
    for (int query = at.token; query < tokens; ++query) {
      const HeadVector q = HeadVector::read(queries[query], size);
      const HeadVector d_z = HeadVector::read(gradients[query], size);
      const float probability = exponential(sizes.scale * key.dot(q) - call.lse[row][query]);
      const float d_probability = value.dot(d_z);
      const float factor =
          mask_factor(call.mask, at.sequence, first_probability(sizes, head, query) + at.token);
      const float own_delta = delta[row * tokens + query];
      d_key.accumulate(1, q, probability * (d_probability * factor - own_delta));
      d_value.accumulate(1, d_z, probability * factor);
    }
  }
  d_key.write(head_rows(call.d_k, at.sequence, tokens, at.head, size)[at.token], size, sizes.scale);
  d_value.write(head_rows(call.d_v, at.sequence, tokens, at.head, size)[at.token], size, 1);
}

LaunchShape warp_each(int64_t batch, int heads, int tokens, cudaStream_t stream) {
  return {attention_grid(batch * heads * tokens, kWarps), dim3(kThreads), 0, stream};
}

}  // namespace

void enqueue_forward(const AttentionForward<float>& call, cudaStream_t stream) {
  launch("attention_forward", forward_kernel,
         warp_each(call.sizes.batch, call.sizes.heads, call.sizes.query_tokens, stream), call);
}

void enqueue_d_queries(const AttentionGradient<float>& call, const Scratch<float>& delta,
                       cudaStream_t stream) {
  launch("attention_d_queries", d_queries_kernel,
         warp_each(call.sizes.batch, call.sizes.heads, call.sizes.query_tokens, stream), call,
         delta);
}

void enqueue_d_keys(const AttentionGradient<float>& call, const Scratch<float>& delta,
                    cudaStream_t stream) {
  launch("attention_d_keys", d_keys_kernel,
         warp_each(call.sizes.batch, call.sizes.kv_heads, call.sizes.query_tokens, stream), call,
         delta);
}

}  // namespace normlab
