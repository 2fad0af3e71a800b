// Tile shapes of kernels, by head size: one table, with what each row costs a thread and a block.
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

constexpr AttentionTile attention_tile(AttentionKernel kernel, int head_size,
                                       AttentionDropout dropout) {
  const bool drops = dropout == AttentionDropout::present;
  switch (kernel) {
    case AttentionKernel::forward:
      if (head_size <= 64) return drops ? AttentionTile{64, 64, 4} : AttentionTile{128, 64, 4};
      return drops ? AttentionTile{64, 64, 4} : AttentionTile{128, 64, 8};
    case AttentionKernel::d_queries:
      if (head_size <= 64) return drops ? AttentionTile{64, 64, 4} : AttentionTile{128, 32, 4};
      return drops ? AttentionTile{64, 32, 4} : AttentionTile{64, 64, 4};
    case AttentionKernel::d_keys:
      if (head_size <= 64) return drops ? AttentionTile{64, 32, 4} : AttentionTile{128, 32, 4};
      return drops ? AttentionTile{64, 32, 4} : AttentionTile{64, 32, 4};
  }
  return {};
}

}  // namespace normlab
