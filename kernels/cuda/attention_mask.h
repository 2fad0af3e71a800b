// Dropout of probabilities in the attention kernels in bf16: the factors of a tile's elements, the
// same whichever kernel asks, and however it holds the tile.
#pragma once

#include "kernels/cuda/attention_tiles.h"

namespace normlab {

// Bit i: whether element first + i of a sequence is kept. Each draw gives four.
template <int kCount>
__device__ __forceinline__ uint32_t kept_bits(const DropoutArguments& dropout, uint64_t key,
                                              int64_t first) {
  const auto element = static_cast<uint64_t>(first);
  const int before = static_cast<int>(element % 4);
  const int draws = (before + kCount + 3) / 4;
  uint64_t bits = 0;
#pragma unroll 1
  for (int draw = 0; draw < draws; ++draw) {
    const RandomBlock block =
        element_block(key, dropout.tensor, element / 4 + static_cast<uint64_t>(draw));
    uint64_t kept = 0;
#pragma unroll
    for (size_t word = 0; word < 4; ++word) {
      kept |= uint64_t{block[word] >= dropout.threshold} << word;
    }
    bits |= kept << (4 * draw);
  }
  return static_cast<uint32_t>(bits >> before);
}

// What masks know of the head.
struct HeadMask {
  DropoutArguments dropout;
  uint64_t key;           // of the sequence's random numbers
  int64_t first_element;  // of the head's probabilities in the sequence
  int64_t key_tokens;

  // The element of a query and the key 0.
  __device__ __forceinline__ int64_t row(int query) const {
    return first_element + query * key_tokens;
  }
};

__device__ __forceinline__ HeadMask head_mask(const AttentionMask& mask,
                                              const AttentionSizes& sizes, int64_t sequence,
                                              int head) {
  return {mask.dropout, sequence_key_of(*mask.step, sequence), first_probability(sizes, head, 0),
          sizes.key_tokens};
}

// The masks below are for all lanes of a warp together. `query` and `key` are those of the tile's
// first element; for_each calls body(m, n, e, factor), factor 0 or 1/(1 − p).

// Nothing is dropped.
template <int kM, int kN>
struct NoMask {
  template <typename Body>
  __device__ __forceinline__ void for_each(const Body& body) const {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int e = 0; e < 4; ++e) body(m, n, e, 1.0f);
      }
    }
  }
};

// Of kM·16 queries × kN·8 keys. A lane draws words of 32 keys of a query, and gets those with its
// own elements by shuffles.
template <int kM, int kN>
class QueryRowsMask {
 public:
  static_assert(kN % 4 == 0);
  __device__ __forceinline__ QueryRowsMask(const HeadMask& head, int query, int key)
      : kept_(head.dropout.kept) {
#pragma unroll
    for (int i = 0; i < kWordsOfLane; ++i) {
      const int word = lane_index() + kWarpSize * i;
      const int64_t first = head.row(query + word % kRows) + key + word / kRows * 32;
      drawn_[i] = kept_bits<32>(head.dropout, head.key, first);
    }
  }
  template <typename Body>
  __device__ __forceinline__ void for_each(const Body& body) const {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          // The first of eight words, one for each four lanes.
          const int first = n / 4 * kRows + 16 * m + 8 * half;
          const uint32_t word =
              shuffle(drawn_[first / kWarpSize], first % kWarpSize + lane_index() / 4);
#pragma unroll
          for (int e = 2 * half; e < 2 * half + 2; ++e) {
            const uint32_t bit = word >> (n % 4 * 8 + fragment_column(e)) & 1u;
            body(m, n, e, bit != 0 ? kept_ : 0.0f);
          }
        }
      }
    }
  }

 private:
  static constexpr int kRows = 16 * kM;
  static constexpr int kWordsOfLane = (kRows * kN / 4 + kWarpSize - 1) / kWarpSize;
  float kept_;
  uint32_t drawn_[kWordsOfLane];
};

// Of kM·16 keys × kN·8 queries. A lane draws the keys of one query.
template <int kM, int kN>
class KeyRowsMask {
 public:
  static_assert(kM <= 2 && kN <= 4);
  __device__ __forceinline__ KeyRowsMask(const HeadMask& head, int key, int query)
      : kept_(head.dropout.kept),
        drawn_(kept_bits<16 * kM>(head.dropout, head.key,
                                  head.row(query + lane_index() % (8 * kN)) + key)) {}
  template <typename Body>
  __device__ __forceinline__ void for_each(const Body& body) const {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        const uint32_t word = shuffle(drawn_, 8 * n + fragment_column(odd));
#pragma unroll
        for (int m = 0; m < kM; ++m) {
#pragma unroll
          for (int e = odd; e < 4; e += 2) {
            const uint32_t bit = word >> (16 * m + fragment_row(e)) & 1u;
            body(m, n, e, bit != 0 ? kept_ : 0.0f);
          }
        }
      }
    }
  }

 private:
  float kept_;
  uint32_t drawn_;
};

// The mask of a tile of the block's head: `row` and `column` are its first query and key, or key
// and query, as the mask takes them.
template <typename Mask>
__device__ __forceinline__ Mask tile_mask(const AttentionMask& mask, const AttentionSizes& sizes,
                                          int64_t sequence, int head, int row, int column) {
  if constexpr (std::is_empty_v<Mask>) {
    return {};
  } else {
    return Mask(head_mask(mask, sizes, sequence, head), row, column);
  }
}

}  // namespace normlab
