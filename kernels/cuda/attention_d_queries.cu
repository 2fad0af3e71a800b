// Attention in bf16, backward to the queries: FlashAttention-2 (Dao 2023), algorithm 2, its part
// dQ. A block keeps a tile of queries of one head and lets keys and values pass by; so nothing is
// added to memory. (Algorithm 2 goes along keys and adds dQ atomically.)
#include <algorithm>

#include "kernels/cuda/attention_mask.h"

namespace normlab {
namespace {

template <int kHead, AttentionDropout kDropout>
struct QueriesShape {
  static constexpr AttentionTile kTile =
      attention_tile(AttentionKernel::d_queries, kHead, kDropout);
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
      SharedMemory::shared_array_bytes<BFloat16>(2 * kQueryElements + Ring::kElements);
};

// A lane's part of a·b, one of four lanes that share a row.
template <int kWidth>
__device__ __forceinline__ float part_of_product(const BFloat16* a, const BFloat16* b, int size) {
  float sum = 0;
  for (int column = lane_index() % 4 * kWidth; column < size; column += 4 * kWidth) {
    float x[kWidth], y[kWidth];
    load(x, a + column);
    load(y, b + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum += x[i] * y[i];
  }
  return sum;
}

// Of a lane's queries, [m][half].
template <int kM>
struct QueryStatistics {
  float shift[kM][2];  // log2 of the sum of exponentials; ∞ beyond the last query
  float delta[kM][2];  // Σ d_z·z
};

// Those of the queries from `query` on; delta goes to `target` too, at the head's query.
template <int kM>
__device__ __forceinline__ QueryStatistics<kM> query_statistics(
    const AttentionGradient<BFloat16>& call, const AttentionBlock& block, int query,
    const Scratch<float>& target) {
  const AttentionSizes& sizes = call.sizes;
  const auto d_z =
      head_rows(call.d_z, block.sequence, sizes.query_tokens, block.head, sizes.head_size);
  const auto z = head_rows(call.z, block.sequence, sizes.query_tokens, block.head, sizes.head_size);
  const int64_t head = block.sequence * sizes.heads + block.head;
  QueryStatistics<kM> statistics;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = query + 16 * m + fragment_row(2 * half);
      const bool there = row < sizes.query_tokens;
      float delta = 0;
      if (there) {
        delta = sizes.access == RowAccess::vectors
                    ? part_of_product<8>(d_z[row], z[row], sizes.head_size)
                    : part_of_product<1>(d_z[row], z[row], sizes.head_size);
      }
      delta += shuffle_xor(delta, 1);
      delta += shuffle_xor(delta, 2);
      if (there && lane_index() % 4 == 0) target[head * sizes.query_tokens + row] = delta;
      statistics.delta[m][half] = delta;
      statistics.shift[m][half] = there ? call.lse[head][row] * kLog2OfE : INFINITY;
    }
  }
  return statistics;
}

// Scores become their own gradients, before the scale: p·(d_p − delta), d_p that of probabilities.
template <typename Mask, int kM, int kN>
__device__ __forceinline__ void scores_to_gradients(float (&scores)[kM][kN][4],
                                                    const float (&d_probabilities)[kM][kN][4],
                                                    const QueryStatistics<kM>& statistics,
                                                    float scale, const Mask& mask) {
  mask.for_each([&](int m, int n, int e, float factor) {
    const float p = exp2_approximate(scores[m][n][e] * scale - statistics.shift[m][e / 2]);
    scores[m][n][e] = p * (d_probabilities[m][n][e] * factor - statistics.delta[m][e / 2]);
  });
}

// Reads q, k, v, d_z, z and writes d_q once: 4·(2·H + H_kv)·N·D bytes. Causal, 3·H·N·T·D FLOPs.
template <int kHead, AttentionDropout kDropout>
__global__ void __launch_bounds__(QueriesShape<kHead, kDropout>::kThreads)
    attention_d_queries_kernel(AttentionGradient<BFloat16> call, Scratch<float> delta) {
  using Shape = QueriesShape<kHead, kDropout>;
  constexpr int kM = Shape::kM, kN = Shape::kN, kKeys = Shape::kKeys;
  const AttentionSizes& sizes = call.sizes;
  SharedMemory shared;
  const auto queries = shared.take<BFloat16>(Shape::kQueryElements);
  const auto d_outputs = shared.take<BFloat16>(Shape::kQueryElements);
  const typename Shape::Ring ring(shared);
  const int tokens = sizes.query_tokens;
  const AttentionBlock block =
      attention_block(sizes.heads, tokens, Shape::kQueries, TileOrder::descending);
  const int kv_head = block.head / (sizes.heads / sizes.kv_heads);
  const auto q = tile_source(call.q, block.sequence, tokens, block.head, sizes);
  const auto d_z = tile_source(call.d_z, block.sequence, tokens, block.head, sizes);
  const auto k = tile_source(call.k, block.sequence, tokens, kv_head, sizes);
  const auto v = tile_source(call.v, block.sequence, tokens, kv_head, sizes);
  const int first_query = block.tile * Shape::kQueries;
  load_tile<kHead, Shape::kQueries, Shape::kThreads>(queries, q, first_query);
  load_tile<kHead, Shape::kQueries, Shape::kThreads>(d_outputs, d_z, first_query);
  ring.load(0, k, v, 0);
  const int row = warp_index() * 16 * kM;  // of the tile, the warp's first
  const auto statistics = query_statistics<kM>(call, block, first_query + row, delta);
  float d_q[kM][kHead / 8][4] = {};
  ring.land();

  const int steps = (std::min(first_query + Shape::kQueries, tokens) + kKeys - 1) / kKeys;
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) ring.load(step + 1, k, v, (step + 1) * kKeys);
    const int key = step * kKeys;
    // A warp whose queries see none of these keys waits for the others.
    if (key < first_query + row + 16 * kM) {
      float scores[kM][kN][4], d_probabilities[kM][kN][4];
      multiply_transposed<kHead>(scores, queries, row, ring.first(step));
      multiply_transposed<kHead>(d_probabilities, d_outputs, row, ring.second(step));
      mask_later_keys(scores, first_query + row, key);
      scores_to_gradients(scores, d_probabilities, statistics, sizes.scale_log2,
                          tile_mask<typename Shape::Mask>(call.mask, sizes, block.sequence,
                                                          block.head, first_query + row, key));
      accumulate<kHead>(d_q, scores, ring.first(step));
    }
    ring.land();
  }
  store_tile<kHead>(head_rows(call.d_q, block.sequence, tokens, block.head, sizes.head_size), d_q,
                    first_query + row, tokens, sizes.scale, sizes);
}

}  // namespace

void enqueue_d_queries(const AttentionGradient<BFloat16>& call, const Scratch<float>& delta,
                       cudaStream_t stream) {
  const AttentionSizes& sizes = call.sizes;
  with_compiled_kernel(sizes, call.mask, [&](auto head, auto dropout) {
    using Shape = QueriesShape<head, dropout>;
    launch("attention_d_queries", attention_d_queries_kernel<head, dropout>,
           {attention_grid(sizes.batch, sizes.heads, sizes.query_tokens, Shape::kQueries),
            dim3(Shape::kThreads), Shape::kSharedBytes, stream},
           call, delta);
  });
}

}  // namespace normlab
