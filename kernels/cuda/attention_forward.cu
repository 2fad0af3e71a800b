// Attention in bf16, forward: FlashAttention-2 (Dao 2023), algorithm 1, with causal masks. A block
// keeps a tile of queries of one head in registers and lets the keys and values pass by.
#include <algorithm>

#include "kernels/cuda/attention_tiles.h"

namespace normlab {
namespace {

template <int kHead, AttentionDropout kDropout>
struct ForwardShape {
  static constexpr AttentionTile kTile = attention_tile(AttentionKernel::forward, kHead, kDropout);
  static constexpr int kQueries = kTile.own_tokens;
  static constexpr int kKeys = kTile.streamed_tokens;
  static constexpr int kThreads = kTile.warps * kWarpSize;
  static constexpr int kM = kQueries / (16 * kTile.warps);  // fragments of 16 rows of a warp
  static constexpr int kN = kKeys / 8;
  static constexpr int64_t kElements = (kQueries + 4 * kKeys) * kRowElements<kHead>;
};

// The softmax of a lane's rows, [m][half], over the keys so far.
template <int kM>
struct RunningSoftmax {
  float largest[kM][2];  // score, unscaled
  float sum[kM][2];      // the lane's own share
};

// Scores become exponentials of what they lie below the row's largest; what was summed up before is
// scaled to the new largest. `scale` is that of scores, times log2(e).
template <int kM, int kN, int kColumns>
__device__ __forceinline__ void online_softmax(float (&scores)[kM][kN][4],
                                               float (&z)[kM][kColumns][4],
                                               RunningSoftmax<kM>& running, float scale) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int left = 2 * half;
      float largest = running.largest[m][half];
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        largest = fmaxf(largest, fmaxf(scores[m][n][left], scores[m][n][left + 1]));
      }
      largest = fmaxf(largest, shuffle_xor(largest, 1));
      largest = fmaxf(largest, shuffle_xor(largest, 2));
      const float shrink = exp2_approximate((running.largest[m][half] - largest) * scale);
      const float shift = largest * scale;
      float sum = 0;
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int e = left; e < left + 2; ++e) {
          scores[m][n][e] = exp2_approximate(scores[m][n][e] * scale - shift);
          sum += scores[m][n][e];
        }
      }
      running.largest[m][half] = largest;
      running.sum[m][half] = running.sum[m][half] * shrink + sum;
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
        z[m][n][left] *= shrink;
        z[m][n][left + 1] *= shrink;
      }
    }
  }
}

// Scores of keys that come after their query are −∞. `query` and `key` belong to the tile's first
// element; a query sees the keys up to its own place among them.
template <int kM, int kN>
__device__ __forceinline__ void mask_later_keys(float (&scores)[kM][kN][4], int query, int key) {
  if (key + 8 * kN - 1 <= query) return;
  for_each_element<kM, kN>([&](int m, int n, int e) {
    const bool later = key + 8 * n + fragment_column(e) > query + 16 * m + fragment_row(e);
    if (later) scores[m][n][e] = -INFINITY;
  });
}

template <int kM, int kN>
__device__ __forceinline__ void drop(float (&probabilities)[kM][kN][4],
                                     const QueryRowsMask<kM, kN>& mask) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int part = 0; part < kN / 4; ++part) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t word = mask.word(m, part, half);
#pragma unroll
        for (int n = 4 * part; n < 4 * part + 4; ++n) {
#pragma unroll
          for (int e = 2 * half; e < 2 * half + 2; ++e) {
            probabilities[m][n][e] *= mask.factor(word, n, e);
          }
        }
      }
    }
  }
}

// z = probabilities' values by their sum, and lse = log of it, for queries [query, query + kM·16).
template <int kHead, int kM>
__device__ __forceinline__ void finish_rows(const float (&z)[kM][kHead / 8][4],
                                            const RunningSoftmax<kM>& running, int query,
                                            const Rows<BFloat16>& z_rows, float* lse,
                                            const AttentionSizes& sizes) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = running.sum[m][half];
      sum += shuffle_xor(sum, 1);
      sum += shuffle_xor(sum, 2);
      const int row = query + 16 * m + fragment_row(2 * half);
      if (row >= sizes.query_tokens) continue;
      if (lane_index() % 4 == 0) lse[row] = running.largest[m][half] * sizes.scale + logf(sum);
      store_row<kHead>(z_rows[row], z[m], half, 1 / sum, sizes);
    }
  }
}

// Bytes: q, k, v read, z and lse written once, 2·(2·H + 2·H_kv)·N·D + 4·H·N. Multiply-adds: about
// H·N·T·D, half of the products with all keys.
template <int kHead, AttentionDropout kDropout>
__global__ void __launch_bounds__(ForwardShape<kHead, kDropout>::kThreads)
    attention_forward_kernel(AttentionForward<BFloat16> call) {
  using Shape = ForwardShape<kHead, kDropout>;
  constexpr int kM = Shape::kM, kN = Shape::kN, kKeys = Shape::kKeys;
  constexpr int kThreads = Shape::kThreads, kTileElements = kKeys * kRowElements<kHead>;
  const AttentionSizes& sizes = call.sizes;
  SharedMemory shared;
  const auto queries = shared.take<BFloat16>(Shape::kQueries * kRowElements<kHead>);
  const auto keys = shared.take<BFloat16>(2 * kTileElements);
  const auto values = shared.take<BFloat16>(2 * kTileElements);

  const auto [tile, head, sequence] =
      attention_block(sizes.heads, sizes.query_tokens, Shape::kQueries, TileOrder::descending);
  const int kv_head = head / (sizes.heads / sizes.kv_heads);
  const auto source = [&](const Rows<const BFloat16>& rows, int tokens, int of) {
    return TileSource{head_rows(rows, sequence, tokens, of, sizes.head_size), tokens,
                      sizes.head_size, sizes.access};
  };
  const TileSource k = source(call.k, sizes.key_tokens, kv_head);
  const TileSource v = source(call.v, sizes.key_tokens, kv_head);
  const auto load_step = [&](int step) {
    load_tile<kHead, kKeys, kThreads>(keys.from(step % 2 * kTileElements), k, step * kKeys);
    load_tile<kHead, kKeys, kThreads>(values.from(step % 2 * kTileElements), v, step * kKeys);
    cp_async_commit();
  };
  const auto land = [] {
    cp_async_wait<0>();
    __syncthreads();
  };
  const int first_query = tile * Shape::kQueries;
  load_tile<kHead, Shape::kQueries, kThreads>(queries, source(call.q, sizes.query_tokens, head),
                                              first_query);
  load_step(0);
  land();

  const int row = warp_index() * 16 * kM;  // of the warp's first query, in the tile
  uint32_t query_fragments[kHead / 16][kM][4];
#pragma unroll
  for (int i = 0; i < kHead / 16; ++i) {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      load_left<kHead>(query_fragments[i][m], queries, row + 16 * m, i);
    }
  }
  float z[kM][kHead / 8][4] = {};
  RunningSoftmax<kM> running;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
    running.largest[m][0] = running.largest[m][1] = -INFINITY;
    running.sum[m][0] = running.sum[m][1] = 0;
  }
  // Places of queries among the keys.
  const int earlier = sizes.key_tokens - sizes.query_tokens;
  const int place = earlier + first_query + row;
  const int seen = std::min(earlier + first_query + Shape::kQueries, sizes.key_tokens);
  const int steps = (seen + kKeys - 1) / kKeys;
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) load_step(step + 1);
    // A warp that sees nothing of the tile has nothing to do.
    if (step * kKeys < place + 16 * kM) {
      float scores[kM][kN][4] = {};
#pragma unroll
      for (int i = 0; i < kHead / 16; ++i) {
        multiply_step<kHead>(scores, query_fragments[i], keys.from(step % 2 * kTileElements), i);
      }
      mask_later_keys(scores, place, step * kKeys);
      online_softmax(scores, z, running, sizes.scale * kLog2OfE);
      if constexpr (kDropout == AttentionDropout::present) {
        drop(scores, QueryRowsMask<kM, kN>(call.mask, sequence_key_of(*call.mask.step, sequence),
                                           sizes, head, first_query + row, step * kKeys));
      }
      accumulate<kHead>(z, scores, values.from(step % 2 * kTileElements));
    }
    land();
  }
  finish_rows<kHead>(z, running, first_query + row,
                     head_rows(call.z, sequence, sizes.query_tokens, head, sizes.head_size),
                     call.lse[sequence * sizes.heads + head], sizes);
}

}  // namespace

void enqueue_forward(const AttentionForward<BFloat16>& call, cudaStream_t stream) {
  with_compiled_head_size(call.sizes, call.mask, [&](auto head, auto dropout) {
    using Shape = ForwardShape<head, dropout>;
    launch("attention_forward", attention_forward_kernel<head, dropout>,
           {attention_grid(call.sizes.batch, call.sizes.heads, call.sizes.query_tokens,
                           Shape::kQueries),
            dim3(Shape::kThreads), SharedMemory::shared_array_bytes<BFloat16>(Shape::kElements),
            stream},
           call);
  });
}

}  // namespace normlab
