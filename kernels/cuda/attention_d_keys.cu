// Attention in bf16, backward to keys and values: FlashAttention-2 (Dao 2023), algorithm 2, its
// parts dK and dV. A block keeps a tile of keys and values of one kv head and lets the queries of
// all heads that read it pass by, head by head, so that it alone writes their gradients. Everything
// is computed transposed, keys along rows: the sums of one product are the left factor of the next.
#include "kernels/cuda/attention_mask.h"

namespace normlab {
namespace {

template <int kHead, AttentionDropout kDropout>
struct KeysShape {
  static constexpr AttentionTile kTile = attention_tile(AttentionKernel::d_keys, kHead, kDropout);
  static constexpr int kKeys = kTile.own_tokens;
  static constexpr int kQueries = kTile.streamed_tokens;
  static constexpr int kThreads = kTile.warps * kWarpSize;
  static constexpr int kM = kKeys / (16 * kTile.warps);  // fragments of 16 keys of a warp
  static constexpr int kN = kQueries / 8;
  using Ring = TileRing<kHead, kQueries, kThreads>;
  using Mask = std::conditional_t<kDropout == AttentionDropout::present, KeyRowsMask<kM, kN>,
                                  NoMask<kM, kN>>;
  static_assert(kKeys % kQueries == 0 && 2 * kQueries <= kThreads);
  static constexpr int64_t kKeyElements = kKeys * kRowElements<kHead>;
  static constexpr int64_t kSharedBytes =
      SharedMemory::shared_array_bytes<BFloat16>(2 * kKeyElements + Ring::kElements) +
      SharedMemory::shared_array_bytes<float>(4 * kQueries);
};

// The queries that pass by: from the first that sees the block's keys to the last, for one head
// after the other.
struct QuerySteps {
  int first_query;
  int tile;      // queries of a step
  int per_head;  // steps

  __device__ __forceinline__ int head(int step) const { return step / per_head; }  // of the group
  __device__ __forceinline__ int query(int step) const {
    return first_query + step % per_head * tile;
  }
};

// log2 of the sum of exponentials, and delta, of the queries of a step; in two buffers, as tiles
// are. A thread brings one number.
template <int kQueries>
class StatisticsRing {
 public:
  __device__ __forceinline__ explicit StatisticsRing(SharedMemory& shared)
      : numbers_(shared.take<float>(4 * kQueries)) {}
  // The thread's number, on its way from memory. Beyond the last query the probabilities are 0.
  __device__ __forceinline__ static float fetch(const float* lse, const Scratch<float>& delta,
                                                int64_t first_delta, int query, int tokens) {
    const auto thread = static_cast<int>(threadIdx.x);
    const int row = query + thread % kQueries;
    if (thread < kQueries) return row < tokens ? lse[row] * kLog2OfE : INFINITY;
    if (thread < 2 * kQueries && row < tokens) return delta[first_delta + row];
    return 0;
  }
  // Before the barrier that ends the step before.
  __device__ __forceinline__ void put(int step, float number) const {
    const auto thread = static_cast<int>(threadIdx.x);
    if (thread < 2 * kQueries) numbers_[step % 2 * 2 * kQueries + thread] = number;
  }
  __device__ __forceinline__ float shift(int step, int query) const {
    return numbers_[step % 2 * 2 * kQueries + query];
  }
  __device__ __forceinline__ float delta(int step, int query) const {
    return numbers_[step % 2 * 2 * kQueries + kQueries + query];
  }

 private:
  SharedArray<float> numbers_;
};

// Scores and gradients of probabilities (keys × queries) become what is multiplied with d_z, the
// probabilities with their factors, and with q, the gradients of scores before the scale.
template <typename Mask, int kM, int kN, int kQueries>
__device__ __forceinline__ void scores_to_factors(float (&scores)[kM][kN][4],
                                                  float (&d_probabilities)[kM][kN][4],
                                                  const StatisticsRing<kQueries>& statistics,
                                                  int step, float scale, const Mask& mask) {
  mask.for_each([&](int m, int n, int e, float factor) {
    const int column = 8 * n + fragment_column(e);
    const float p = exp2_approximate(scores[m][n][e] * scale - statistics.shift(step, column));
    scores[m][n][e] = p * factor;
    d_probabilities[m][n][e] =
        p * (d_probabilities[m][n][e] * factor - statistics.delta(step, column));
  });
}

// Reads q, k, v, d_z and writes d_k, d_v once: 4·(H + 2·H_kv)·N·D bytes. Causal, 4·H·N·T·D FLOPs.
template <int kHead, AttentionDropout kDropout>
__global__ void __launch_bounds__(KeysShape<kHead, kDropout>::kThreads)
    attention_d_keys_kernel(AttentionGradient<BFloat16> call, Scratch<float> delta) {
  using Shape = KeysShape<kHead, kDropout>;
  constexpr int kM = Shape::kM, kN = Shape::kN;
  const AttentionSizes& sizes = call.sizes;
  SharedMemory shared;
  const auto keys = shared.take<BFloat16>(Shape::kKeyElements);
  const auto values = shared.take<BFloat16>(Shape::kKeyElements);
  const typename Shape::Ring ring(shared);
  const StatisticsRing<Shape::kQueries> statistics(shared);
  const int tokens = sizes.query_tokens;
  const AttentionBlock block =
      attention_block(sizes.kv_heads, tokens, Shape::kKeys, TileOrder::ascending);
  const int first_key = block.tile * Shape::kKeys;
  const int group = sizes.heads / sizes.kv_heads;
  const QuerySteps plan{first_key, Shape::kQueries,
                        (tokens - first_key + Shape::kQueries - 1) / Shape::kQueries};
  const auto load_step = [&](int step) {
    const int head = block.head * group + plan.head(step);
    ring.load(step, tile_source(call.q, block.sequence, tokens, head, sizes),
              tile_source(call.d_z, block.sequence, tokens, head, sizes), plan.query(step));
    const int64_t row = block.sequence * sizes.heads + head;
    return statistics.fetch(call.lse[row], delta, row * tokens, plan.query(step), tokens);
  };
  const auto k = tile_source(call.k, block.sequence, tokens, block.head, sizes);
  const auto v = tile_source(call.v, block.sequence, tokens, block.head, sizes);
  load_tile<kHead, Shape::kKeys, Shape::kThreads>(keys, k, first_key);
  load_tile<kHead, Shape::kKeys, Shape::kThreads>(values, v, first_key);
  statistics.put(0, load_step(0));
  ring.land();

  const int row = warp_index() * 16 * kM;  // of the tile, the warp's first
  float d_k[kM][kHead / 8][4] = {}, d_v[kM][kHead / 8][4] = {};
  const int steps = group * plan.per_head;
  for (int step = 0; step < steps; ++step) {
    float next = 0;
    if (step + 1 < steps) next = load_step(step + 1);
    const int query = plan.query(step);
    // A warp whose keys none of these queries sees waits for the others.
    if (first_key + row < query + Shape::kQueries) {
      float scores[kM][kN][4], d_probabilities[kM][kN][4];
      multiply_transposed<kHead>(scores, keys, row, ring.first(step));
      multiply_transposed<kHead>(d_probabilities, values, row, ring.second(step));
      mask_earlier_queries(scores, first_key + row, query);
      scores_to_factors(scores, d_probabilities, statistics, step, sizes.scale_log2,
                        tile_mask<typename Shape::Mask>(call.mask, sizes, block.sequence,
                                                        block.head * group + plan.head(step),
                                                        first_key + row, query));
      accumulate<kHead>(d_v, scores, ring.second(step));
      accumulate<kHead>(d_k, d_probabilities, ring.first(step));
    }
    if (step + 1 < steps) statistics.put(step + 1, next);
    ring.land();
  }
  const auto store = [&](const Rows<BFloat16>& rows, const auto& sums, float factor) {
    store_tile<kHead>(head_rows(rows, block.sequence, tokens, block.head, sizes.head_size), sums,
                      first_key + row, tokens, factor, sizes);
  };
  store(call.d_k, d_k, sizes.scale);
  store(call.d_v, d_v, 1.0f);
}

}  // namespace

void enqueue_d_keys(const AttentionGradient<BFloat16>& call, const Scratch<float>& delta,
                    cudaStream_t stream) {
  const AttentionSizes& sizes = call.sizes;
  with_compiled_kernel(sizes, call.mask, [&](auto head, auto dropout) {
    using Shape = KeysShape<head, dropout>;
    launch("attention_d_keys", attention_d_keys_kernel<head, dropout>,
           {attention_grid(sizes.batch, sizes.kv_heads, sizes.key_tokens, Shape::kKeys),
            dim3(Shape::kThreads), Shape::kSharedBytes, stream},
           call, delta);
  });
}

}  // namespace normlab
