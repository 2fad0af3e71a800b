// What the attention kernels in bf16 are made of: tiles in shared memory, products of tiles by
// tensor cores, causal masks, dropout. Fragments are those of mma_m16n8k16 (device.h): of a tile of
// rows × columns a lane holds, in [m][n][e], row 16m + lane/4 + 8·(e/2), column 8n + 2·(lane%4) +
// e%2. So the sums of one product are, packed to bf16, the left factor of the next, and never leave
// the registers.
#pragma once

#include "kernels/cuda/attention.h"
#include "kernels/cuda/reduce.h"

namespace normlab {

// Row and column of a lane's elements within a fragment.
__device__ __forceinline__ int fragment_row(int e) { return lane_index() / 4 + 8 * (e / 2); }
__device__ __forceinline__ int fragment_column(int e) { return 2 * (lane_index() % 4) + e % 2; }

// --- Tiles in shared memory: rows of 128 or 256 bytes, in chunks of 16, of which the index is
// exclusive-or'ed with the row's last three bits: the eight rows of a matrix lie in different
// banks.

template <int kHeadSize>
constexpr int kRowElements = kHeadSize <= 64 ? 64 : 128;
constexpr int kChunk = 8;  // elements

template <int kHeadSize>
__device__ __forceinline__ int place_of_chunk(int row, int chunk) {
  return row * kRowElements<kHeadSize> + (chunk ^ (row & 7)) * kChunk;
}

// What tiles are cut from: the rows of a head.
struct TileSource {
  Rows<const BFloat16> rows;
  int count;
  int head_size;
  RowAccess access;
};

// Rows [first, first + kRows) into the tile, zeros beyond the last row and column. The copies are
// in flight until cp_async_wait and a barrier.
template <int kHeadSize, int kRows, int kThreads>
__device__ __forceinline__ void load_tile(SharedArray<BFloat16> tile, const TileSource& source,
                                          int first) {
  constexpr int kChunks = kHeadSize / kChunk;
  constexpr int kAll = kRows * kChunks;
#pragma unroll
  for (int i = 0; i < (kAll + kThreads - 1) / kThreads; ++i) {
    const int index = static_cast<int>(threadIdx.x) + i * kThreads;
    if (kAll % kThreads != 0 && index >= kAll) break;
    const int row = index / kChunks;
    const int column = index % kChunks * kChunk;
    const int place = place_of_chunk<kHeadSize>(row, index % kChunks);
    const bool there = first + row < source.count && column < source.head_size;
    // Nothing is read where there is nothing; the address stays inside the tensor all the same.
    const BFloat16* values = source.rows[there ? first + row : 0] + (there ? column : 0);
    if (source.access == RowAccess::vectors) {
      cp_async_16(tile, place, values, there);
    } else {
      for (int e = 0; e < kChunk; ++e) {
        tile[place + e] = there && column + e < source.head_size ? values[e] : BFloat16{};
      }
    }
  }
}

// --- Products

// The left factor's 16 rows from `row` on, 16 columns of the head from 16·step on.
template <int kHeadSize>
__device__ __forceinline__ void load_left(uint32_t (&fragment)[4], SharedArray<BFloat16> tile,
                                          int row, int step) {
  const int lane = lane_index();
  ldmatrix_x4(fragment, tile, place_of_chunk<kHeadSize>(row + lane % 16, 2 * step + lane / 16));
}

// For a right factor that enters transposed: 16 of its rows, which are columns of the product, as
// two fragments of 8.
template <int kHeadSize>
__device__ __forceinline__ void load_right_transposed(uint32_t (&fragment)[4],
                                                      SharedArray<BFloat16> tile, int row,
                                                      int step) {
  const int lane = lane_index();
  ldmatrix_x4(fragment, tile,
              place_of_chunk<kHeadSize>(row + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
}

// The right factor's 16 rows from `row` on, 16 of its columns from 16·pair on, as two fragments.
template <int kHeadSize>
__device__ __forceinline__ void load_right(uint32_t (&fragment)[4], SharedArray<BFloat16> tile,
                                           int row, int pair) {
  const int lane = lane_index();
  ldmatrix_x4_transposed(fragment, tile,
                         place_of_chunk<kHeadSize>(row + lane % 16, 2 * pair + lane / 16));
}

// products (kM·16, kN·8) += left (kM·16, 16) · rightᵀ, of columns [16·step, 16·step + 16).
template <int kHeadSize, int kM, int kN>
__device__ __forceinline__ void multiply_step(float (&products)[kM][kN][4],
                                              const uint32_t (&left)[kM][4],
                                              SharedArray<BFloat16> right, int step) {
#pragma unroll
  for (int n = 0; n < kN / 2; ++n) {
    uint32_t fragment[4];
    load_right_transposed<kHeadSize>(fragment, right, 16 * n, step);
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      mma_m16n8k16(products[m][2 * n], left[m], fragment[0], fragment[1]);
      mma_m16n8k16(products[m][2 * n + 1], left[m], fragment[2], fragment[3]);
    }
  }
}

// products (kM·16, kN·8) = rows [row, row + kM·16) of left · rightᵀ, over the head.
template <int kHeadSize, int kM, int kN>
__device__ __forceinline__ void multiply_transposed(float (&products)[kM][kN][4],
                                                    SharedArray<BFloat16> left, int row,
                                                    SharedArray<BFloat16> right) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) products[m][n][e] = 0;
    }
  }
#pragma unroll
  for (int step = 0; step < kHeadSize / 16; ++step) {
    uint32_t fragments[kM][4];
#pragma unroll
    for (int m = 0; m < kM; ++m) load_left<kHeadSize>(fragments[m], left, row + 16 * m, step);
    multiply_step<kHeadSize>(products, fragments, right, step);
  }
}

// sums (kM·16, head) += left (kM·16, kN·8), rounded to bf16, · right (kN·8, head).
template <int kHeadSize, int kM, int kN>
__device__ __forceinline__ void accumulate(float (&sums)[kM][kHeadSize / 8][4],
                                           const float (&left)[kM][kN][4],
                                           SharedArray<BFloat16> right) {
#pragma unroll
  for (int k = 0; k < kN / 2; ++k) {
    uint32_t fragments[kM][4];
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float(&pair)[4] = left[m][2 * k + i / 2];
        fragments[m][i] = pack_bfloat16(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
      }
    }
#pragma unroll
    for (int n = 0; n < kHeadSize / 16; ++n) {
      uint32_t fragment[4];
      load_right<kHeadSize>(fragment, right, 16 * k, n);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        mma_m16n8k16(sums[m][2 * n], fragments[m], fragment[0], fragment[1]);
        mma_m16n8k16(sums[m][2 * n + 1], fragments[m], fragment[2], fragment[3]);
      }
    }
  }
}

// body(m, n, e) for each element that a lane holds of a tile.
template <int kM, int kN, typename Body>
__device__ __forceinline__ void for_each_element(const Body& body) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) body(m, n, e);
    }
  }
}

// --- Dropout

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
    for (int word = 0; word < 4; ++word) {
      kept |= uint64_t{block[static_cast<size_t>(word)] >= dropout.threshold} << word;
    }
    bits |= kept << (4 * draw);
  }
  return static_cast<uint32_t>(bits >> before);
}

// The factors of a tile of kM·16 queries × kN·8 keys. A lane draws whole words of 32 keys of a
// query and gets the bits of its own elements by shuffles.
template <int kM, int kN>
class QueryRowsMask {
 public:
  static_assert(kN % 4 == 0);
  // `query` and `key` are those of the tile's first element; all lanes of a warp call it.
  __device__ __forceinline__ QueryRowsMask(const AttentionMask& mask, uint64_t sequence_key,
                                           const AttentionSizes& sizes, int head, int query,
                                           int key)
      : kept_(mask.dropout.kept) {
#pragma unroll
    for (int i = 0; i < kWordsOfLane; ++i) {
      const int word = lane_index() + kWarpSize * i;
      const int64_t row = first_probability(sizes, head, query + word % kRows);
      drawn_[i] = kept_bits<32>(mask.dropout, sequence_key, row + key + word / kRows * 32);
    }
  }
  // For elements m, n / 4 and e / 2 of the tile: the word that holds them.
  __device__ __forceinline__ uint32_t word(int m, int part, int half) const {
    const int first = part * kRows + 16 * m + 8 * half;  // of eight, one for each four lanes
    return shuffle(drawn_[first / kWarpSize], first % kWarpSize + lane_index() / 4);
  }
  // 0 or 1/(1 − p), of an element with that word.
  __device__ __forceinline__ float factor(uint32_t word, int n, int e) const {
    return (word >> (n % 4 * 8 + fragment_column(e)) & 1u) != 0 ? kept_ : 0.0f;
  }

 private:
  static constexpr int kRows = 16 * kM;
  static constexpr int kWordsOfLane = (kRows * kN / 4 + kWarpSize - 1) / kWarpSize;
  float kept_;
  uint32_t drawn_[kWordsOfLane];
};

// --- Results

// One row of `tiles` · factor, of those that the lane holds: half 0 of a fragment or half 1.
template <int kHeadSize>
__device__ __forceinline__ void store_row(BFloat16* row, const float (&tiles)[kHeadSize / 8][4],
                                          int half, float factor, const AttentionSizes& sizes) {
#pragma unroll
  for (int n = 0; n < kHeadSize / 8; ++n) {
    const int column = 8 * n + fragment_column(0);
    const float low = tiles[n][2 * half] * factor;
    const float high = tiles[n][2 * half + 1] * factor;
    if (sizes.access == RowAccess::vectors) {
      if (column < sizes.head_size) store(row + column, {low, high});
    } else {
      if (column < sizes.head_size) store(row + column, {low});
      if (column + 1 < sizes.head_size) store(row + column + 1, {high});
    }
  }
}

// Calls body(head size that is compiled for, whether dropout is).
template <typename Body>
void with_compiled_head_size(const AttentionSizes& sizes, const AttentionMask& mask,
                             const Body& body) {
  using Absent = std::integral_constant<AttentionDropout, AttentionDropout::absent>;
  using Present = std::integral_constant<AttentionDropout, AttentionDropout::present>;
  const auto choose = [&]<int... kSizes>(auto dropout, std::integer_sequence<int, kSizes...>) {
    int before = 0;
    const auto try_one = [&](auto size) {
      if (before < sizes.head_size && sizes.head_size <= size) body(size, dropout);
      before = size;
    };
    (try_one(std::integral_constant<int, kSizes>{}), ...);
  };
  if (mask.step == nullptr) {
    choose(Absent{}, AttentionHeadSizes{});
  } else {
    choose(Present{}, AttentionHeadSizesWithDropout{});
  }
}

}  // namespace normlab
