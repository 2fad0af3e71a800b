// Attention on a GPU: what its kernels are given, and who enqueues them. In bf16 they use tensor
// cores (attention_forward.cu, attention_d_queries.cu, attention_d_keys.cu); in float nothing but
// float (attention_fp32.cu). attention.cpp has the verbs.
#pragma once

#include <string>

#include "kernels/bfloat16.h"
#include "kernels/cuda/dropout.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/tiles.h"
#include "kernels/cuda/vector.h"
#include "kernels/formula.h"

namespace normlab {

// How rows are read and written: in whole vectors of 16 bytes, or element by element.
enum class RowAccess { vectors, elements };

struct AttentionSizes {
  int64_t batch;
  int query_tokens;
  int key_tokens;
  int heads;
  int kv_heads;
  int head_size;
  float scale;       // of scores, 1/√D
  float scale_log2;  // the same, times log2(e): for powers of two
  RowAccess access;
};

// The probabilities' mask; step is null where nothing is dropped.
struct AttentionMask {
  DropoutArguments dropout;
  const StepState* step;
};

template <typename T>
struct AttentionForward {
  Rows<T> z;
  Rows<float> lse;
  Rows<const T> q, k, v;
  AttentionSizes sizes;
  AttentionMask mask;
};

template <typename T>
struct AttentionGradient {
  Rows<T> d_q, d_k, d_v;
  Rows<const T> d_z, z;
  Rows<const float> lse;
  Rows<const T> q, k, v;
  AttentionSizes sizes;
  AttentionMask mask;
};

// --- Enqueue a kernel. delta (B·H, T): Σ d_z·z of a query and head, written by d_queries, read by
// d_keys
void enqueue_forward(const AttentionForward<float>& call, cudaStream_t stream);
void enqueue_forward(const AttentionForward<BFloat16>& call, cudaStream_t stream);
void enqueue_d_queries(const AttentionGradient<float>& call, const Scratch<float>& delta,
                       cudaStream_t stream);
void enqueue_d_queries(const AttentionGradient<BFloat16>& call, const Scratch<float>& delta,
                       cudaStream_t stream);
void enqueue_d_keys(const AttentionGradient<float>& call, const Scratch<float>& delta,
                    cudaStream_t stream);
void enqueue_d_keys(const AttentionGradient<BFloat16>& call, const Scratch<float>& delta,
                    cudaStream_t stream);

// --- In kernels: which part a block or a head has

// As many blocks as it takes for `own` of the `all` each.
inline dim3 attention_grid(int64_t all, int64_t own) {
  const int64_t blocks = (all + own - 1) / own;
  constexpr int64_t kMost = 0x7FFFFFFF;
  if (blocks > kMost) {
    throw Error("attention: so many sequences, heads and tokens take " + std::to_string(blocks) +
                " blocks (a GPU has at most " + std::to_string(kMost) +
                " in a launch). Make batch.micro_batch smaller");
  }
  return dim3(static_cast<unsigned>(blocks));
}

// The same for each head of each sequence on its own.
inline dim3 attention_grid(int64_t batch, int heads, int tokens, int own) {
  const int64_t tiles = (int64_t{tokens} + own - 1) / own;
  return attention_grid(batch * heads * tiles, 1);
}

// Tile t holds the tokens from t·own on.
struct AttentionBlock {
  int tile;
  int head;
  int64_t sequence;
};

enum class TileOrder { ascending, descending };

// Blocks of one head are neighbours, so that they find what they share in the L2 cache.
__device__ __forceinline__ AttentionBlock attention_block(int heads, int tokens, int own,
                                                          TileOrder order) {
  const int tiles = (tokens + own - 1) / own;
  const auto block = static_cast<int>(blockIdx.x);
  const int tile = block % tiles;
  const int head = block / tiles;
  return {order == TileOrder::ascending ? tile : tiles - 1 - tile, head % heads, head / heads};
}

// The rows of one head of one sequence.
template <typename T>
__device__ __forceinline__ Rows<T> head_rows(Rows<T> rows, int64_t sequence, int tokens, int head,
                                             int head_size) {
  return {rows[sequence * tokens] + int64_t{head} * head_size, rows.stride};
}

// The first probability of a query's row, among the elements of its sequence.
__device__ __forceinline__ int64_t first_probability(const AttentionSizes& sizes, int head,
                                                     int query) {
  return (int64_t{head} * sizes.query_tokens + query) * sizes.key_tokens;
}

}  // namespace normlab
