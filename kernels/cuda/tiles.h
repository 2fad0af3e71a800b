// Tile shapes of kernels, by head size: one table, with what each row takes of a GPU.
#pragma once

#include <utility>

namespace normlab {

enum class AttentionKernel { forward, d_queries, d_keys };
enum class AttentionDropout { absent, present };

// Tokens that a block keeps, queries (forward, d_queries) or keys (d_keys), shared out evenly among
// its warps, 16 or 32 to each; and tokens that pass by, this many at a time, in two buffers.
struct AttentionTile {
  int own_tokens;
  int streamed_tokens;
  int warps;
};

// Head sizes that the kernels in bf16 are compiled for; others are filled up with zeros to the
// next.
using AttentionHeadSizes = std::integer_sequence<int, 32, 48, 64, 80, 96, 128>;
using AttentionHeadSizesWithDropout = std::integer_sequence<int, 64, 128>;

// Beside each row: shared memory of a block; registers of a thread, sm_80/sm_90a, by head size, as
// ptxas 13.0.88 gave them on 2026-11-25, with no spills. 32 tokens to a warp where registers allow
// it: what a warp reads from shared memory then serves twice as many products. With dropout 16: the
// random numbers take registers too. No speed has been measured yet.
constexpr AttentionTile attention_tile(AttentionKernel kernel, int head_size,
                                       AttentionDropout dropout) {
  const bool small = head_size <= 64;
  const bool drops = dropout == AttentionDropout::present;
  switch (kernel) {
    case AttentionKernel::forward:
      // 64: 127/128, 40 KiB. 128: 168/171, 80 KiB
      if (drops) return {64, 64, 4};
      // 32: 129/132, 32 KiB
      if (head_size <= 32) return {128, 32, 4};
      // 48: 182/206, 64: 239/237, 48 KiB
      if (small) return {128, 64, 4};
      // 80: 147/131, 96: 135/174, 128: 179/178, 96 KiB: sm_86 has 99
      return {128, 64, 8};
    case AttentionKernel::d_queries:
      // 32: 162/162, 48: 168/168, 64: 232/229, 48 KiB
      if (small && !drops) return {128, 32, 4};
      // 80: 128/133, 96: 160/161, 128: 168/173, 64 KiB.
      // With dropout 64: 128/128, 32 KiB. 128: 174/168, 64 KiB
      return {64, 32, 4};
    case AttentionKernel::d_keys:
      // 32: 170/169, 48: 234/241, 64: 255/255, 48.5 KiB
      if (small && !drops) return {128, 32, 4};
      // 80: 168/168, 96: 203/173, 128: 242/244, 64.5 KiB.
      // With dropout 64: 161/135, 32.5 KiB. 128: 243/246, 64.5 KiB
      return {64, 32, 4};
  }
  return {};
}

}  // namespace normlab
