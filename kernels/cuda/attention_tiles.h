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

__device__ __forceinline__ TileSource tile_source(const Rows<const BFloat16>& rows,
                                                  int64_t sequence, int tokens, int head,
                                                  const AttentionSizes& sizes) {
  return {head_rows(rows, sequence, tokens, head, sizes.head_size), tokens, sizes.head_size,
          sizes.access};
}

// Rows [first, first + kRows) into the tile, zeros beyond the last row and column. The copies are
// in flight until cp_async_wait and a barrier.
template <int kHeadSize, int kRows, int kThreads>
__device__ __forceinline__ void load_tile(SharedArray<BFloat16> tile, const TileSource& source,
                                          int first) {
  constexpr int kChunks = kHeadSize / kChunk;
  constexpr int kAll = kRows * kChunks;
  // Unrolled, it would take registers that the products need.
#pragma unroll 1
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

// Rows [row, row + kRows) of two sources at a time, step by step, each in two buffers: the one's
// while a step is computed, the other's while the next is on its way.
template <int kHeadSize, int kRows, int kThreads>
class TileRing {
 public:
  static constexpr int kTileElements = kRows * kRowElements<kHeadSize>;
  static constexpr int64_t kElements = 4 * kTileElements;

  __device__ __forceinline__ explicit TileRing(SharedMemory& shared)
      : first_(shared.take<BFloat16>(2 * kTileElements)),
        second_(shared.take<BFloat16>(2 * kTileElements)) {}
  __device__ __forceinline__ void load(int step, const TileSource& first, const TileSource& second,
                                       int row) const {
    load_tile<kHeadSize, kRows, kThreads>(this->first(step), first, row);
    load_tile<kHeadSize, kRows, kThreads>(this->second(step), second, row);
    cp_async_commit();
  }
  // Whatever is on its way has arrived, for all threads, and all are done with the step before.
  __device__ __forceinline__ static void land() {
    cp_async_wait<0>();
    __syncthreads();
  }
  __device__ __forceinline__ SharedArray<BFloat16> first(int step) const {
    return first_.from(step % 2 * kTileElements);
  }
  __device__ __forceinline__ SharedArray<BFloat16> second(int step) const {
    return second_.from(step % 2 * kTileElements);
  }

 private:
  SharedArray<BFloat16> first_;
  SharedArray<BFloat16> second_;
};

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

// --- Causal masks

// Scores of keys that come after their query become −∞. `query` and `key` belong to the tile's
// first element; a query sees the keys up to its own place among them.
template <int kM, int kN>
__device__ __forceinline__ void mask_later_keys(float (&scores)[kM][kN][4], int query, int key) {
  if (key + 8 * kN - 1 <= query) return;
  for_each_element<kM, kN>([&](int m, int n, int e) {
    const bool later = key + 8 * n + fragment_column(e) > query + 16 * m + fragment_row(e);
    if (later) scores[m][n][e] = -INFINITY;
  });
}

// The same where rows are keys and columns queries.
template <int kM, int kN>
__device__ __forceinline__ void mask_earlier_queries(float (&scores)[kM][kN][4], int key,
                                                     int query) {
  if (key + 16 * kM - 1 <= query) return;
  for_each_element<kM, kN>([&](int m, int n, int e) {
    const bool earlier = query + 8 * n + fragment_column(e) < key + 16 * m + fragment_row(e);
    if (earlier) scores[m][n][e] = -INFINITY;
  });
}

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

// The lane's rows of a tile of which row 0 is row `first` of `rows`.
template <int kHeadSize, int kM>
__device__ __forceinline__ void store_tile(const Rows<BFloat16>& rows,
                                           const float (&tiles)[kM][kHeadSize / 8][4], int first,
                                           int count, float factor, const AttentionSizes& sizes) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first + 16 * m + fragment_row(2 * half);
      if (row < count) store_row<kHeadSize>(rows[row], tiles[m], half, factor, sizes);
    }
  }
}

// --- Launches

// Calls body(the least head size that is compiled for and suffices, whether dropout is).
template <typename Body>
void with_compiled_kernel(const AttentionSizes& sizes, const AttentionMask& mask,
                          const Body& body) {
  const auto with = [&]<int... kSizes>(auto dropout, std::integer_sequence<int, kSizes...>) {
    int before = 0;
    const auto try_size = [&](auto size) {
      if (before < sizes.head_size && sizes.head_size <= size) body(size, dropout);
      before = size;
    };
    (try_size(std::integral_constant<int, kSizes>{}), ...);
  };
  if (mask.step == nullptr) {
    with(std::integral_constant<AttentionDropout, AttentionDropout::absent>{},
         AttentionHeadSizes{});
  } else {
    with(std::integral_constant<AttentionDropout, AttentionDropout::present>{},
         AttentionHeadSizesWithDropout{});
  }
}

}  // namespace normlab
