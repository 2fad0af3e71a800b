// Attention in bf16, forward: FlashAttention-2 (Dao 2023), algorithm 1, with a causal mask. A block
// keeps a tile of queries of one head in registers and lets keys and values pass by.
#include <algorithm>

#include "kernels/cuda/attention_mask.h"

namespace normlab {
namespace {

template <int kHead, AttentionDropout kDropout>
struct ForwardShape {
  static constexpr AttentionTile kTile = attention_tile(AttentionKernel::forward, kHead, kDropout);
  static constexpr int kQueries = kTile.own_tokens;
  static constexpr int kKeys = kTile.streamed_tokens;
  static constexpr int kThreads = kTile.warps * kWarpSize;
  static constexpr int kM = kQueries / (16 * kTile.warps);  // fragments of 16 queries of a warp
  static constexpr int kN = kKeys / 8;
  using Ring = TileRing<kHead, kKeys, kThreads>;
  using Mask = std::conditional_t<kDropout == AttentionDropout::present, QueryRowsMask<kM, kN>,
                                  NoMask<kM, kN>>;
  static constexpr int64_t kQueryElements = kQueries * kRowElements<kHead>;
  static constexpr int64_t kSharedBytes =
      SharedMemory::shared_array_bytes<BFloat16>(kQueryElements + Ring::kElements);
};

// What a warp has of its queries, over the keys so far; [m][half] are a lane's rows.
template <int kHead, int kM>
struct WarpResult {
  float z[kM][kHead / 8][4];  // Σ exp(score − largest)·value
  float largest[kM][2];       // score, not yet scaled
  float sum[kM][2];           // Σ exp(score − largest) over the lane's own columns

  __device__ __forceinline__ WarpResult() {
    for_each_element<kM, kHead / 8>([&](int m, int n, int e) { z[m][n][e] = 0; });
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      largest[m][0] = largest[m][1] = -INFINITY;
      sum[m][0] = sum[m][1] = 0;
    }
  }
};

// Scores become exponentials of what they are above the row's largest, and what was summed up
// before is scaled to the new largest. `scale` is that of scores, times log2(e).
template <int kHead, int kM, int kN>
__device__ __forceinline__ void online_softmax(float (&scores)[kM][kN][4],
                                               WarpResult<kHead, kM>& result, float scale) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int left = 2 * half;
      float largest = result.largest[m][half];
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        largest = fmaxf(largest, fmaxf(scores[m][n][left], scores[m][n][left + 1]));
      }
      largest = fmaxf(largest, shuffle_xor(largest, 1));
      largest = fmaxf(largest, shuffle_xor(largest, 2));
      // Finite: every query sees key 0, which comes first.
      const float shrink = exp2_approximate((result.largest[m][half] - largest) * scale);
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
      result.largest[m][half] = largest;
      result.sum[m][half] = result.sum[m][half] * shrink + sum;
#pragma unroll
      for (int n = 0; n < kHead / 8; ++n) {
        result.z[m][n][left] *= shrink;
        result.z[m][n][left + 1] *= shrink;
      }
    }
  }
}

// z by the sums, and lse, of the queries from `query` on.
template <int kHead, int kM>
__device__ __forceinline__ void finish(const WarpResult<kHead, kM>& result, int query,
                                       const Rows<BFloat16>& z, float* lse,
                                       const AttentionSizes& sizes) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = result.sum[m][half];
      sum += shuffle_xor(sum, 1);
      sum += shuffle_xor(sum, 2);
      const int row = query + 16 * m + fragment_row(2 * half);
      if (row < sizes.query_tokens) {
        if (lane_index() % 4 == 0) lse[row] = result.largest[m][half] * sizes.scale + logf(sum);
        store_row<kHead>(z[row], result.z[m], half, 1 / sum, sizes);
      }
    }
  }
}

template <int kHead, int kM>
using QueryFragments = uint32_t[kHead / 16][kM][4];

// The warp's queries, from row `row` of the tile on.
template <int kHead, int kM>
__device__ __forceinline__ void load_queries(QueryFragments<kHead, kM>& fragments,
                                             SharedArray<BFloat16> tile, int row) {
#pragma unroll
  for (int step = 0; step < kHead / 16; ++step) {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      load_left<kHead>(fragments[step][m], tile, row + 16 * m, step);
    }
  }
}

// Reads q, k, v and writes z and lse once: 4·(H + H_kv)·N·D + 4·H·N bytes. Causal, 2·H·N·T·D FLOPs.
template <int kHead, AttentionDropout kDropout>
__global__ void __launch_bounds__(ForwardShape<kHead, kDropout>::kThreads)
    attention_forward_kernel(AttentionForward<BFloat16> call) {
  using Shape = ForwardShape<kHead, kDropout>;
  constexpr int kM = Shape::kM, kN = Shape::kN, kKeys = Shape::kKeys;
  const AttentionSizes& sizes = call.sizes;
  SharedMemory shared;
  const auto queries = shared.take<BFloat16>(Shape::kQueryElements);
  const typename Shape::Ring ring(shared);
  const AttentionBlock block =
      attention_block(sizes.heads, sizes.query_tokens, Shape::kQueries, TileOrder::descending);
  const int kv_head = block.head / (sizes.heads / sizes.kv_heads);
  const auto q = tile_source(call.q, block.sequence, sizes.query_tokens, block.head, sizes);
  const auto k = tile_source(call.k, block.sequence, sizes.key_tokens, kv_head, sizes);
  const auto v = tile_source(call.v, block.sequence, sizes.key_tokens, kv_head, sizes);
  const int first_query = block.tile * Shape::kQueries;
  load_tile<kHead, Shape::kQueries, Shape::kThreads>(queries, q, first_query);
  ring.load(0, k, v, 0);
  ring.land();

  const int row = warp_index() * 16 * kM;  // of the tile, the warp's first
  QueryFragments<kHead, kM> fragments;
  load_queries<kHead, kM>(fragments, queries, row);
  WarpResult<kHead, kM> result;
  // The place of query 0 among the keys; how many keys the tile's last query sees.
  const int offset = sizes.key_tokens - sizes.query_tokens;
  const int seen = std::min(offset + first_query + Shape::kQueries, sizes.key_tokens);
  const int steps = (seen + kKeys - 1) / kKeys;
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) ring.load(step + 1, k, v, (step + 1) * kKeys);
    const int key = step * kKeys;
    // A warp whose queries see none of these keys waits for the others.
    if (key < offset + first_query + row + 16 * kM) {
      float scores[kM][kN][4] = {};
#pragma unroll
      for (int i = 0; i < kHead / 16; ++i) {
        multiply_step<kHead>(scores, fragments[i], ring.first(step), i);
      }
      mask_later_keys(scores, offset + first_query + row, key);
      online_softmax(scores, result, sizes.scale_log2);
      tile_mask<typename Shape::Mask>(call.mask, sizes, block.sequence, block.head,
                                      first_query + row, key)
          .for_each([&](int m, int n, int e, float factor) { scores[m][n][e] *= factor; });
      accumulate<kHead>(result.z, scores, ring.second(step));
    }
    ring.land();
  }
  finish(result, first_query + row,
         head_rows(call.z, block.sequence, sizes.query_tokens, block.head, sizes.head_size),
         call.lse[block.sequence * sizes.heads + block.head], sizes);
}

}  // namespace

void enqueue_forward(const AttentionForward<BFloat16>& call, cudaStream_t stream) {
  const AttentionSizes& sizes = call.sizes;
  with_compiled_kernel(sizes, call.mask, [&](auto head, auto dropout) {
    using Shape = ForwardShape<head, dropout>;
    launch("attention_forward", attention_forward_kernel<head, dropout>,
           {attention_grid(sizes.batch, sizes.heads, sizes.query_tokens, Shape::kQueries),
            dim3(Shape::kThreads), Shape::kSharedBytes, stream},
           call);
  });
}

}  // namespace normlab
