// All partials of all columns, added up by one block.
#pragma once

#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.h"

namespace normlab {

constexpr int kTotalThreads = 256;
constexpr int64_t kTotalBytes = SharedMemory::shared_array_bytes<float>(kTotalThreads / kWarpSize);

// Columns [first, first + count) of `blocks` rows that are `stride` apart.
struct PartialColumns {
  int64_t blocks;
  int64_t stride;
  int64_t first;
  int64_t count;
};

// Their sum, for every thread of a block of kTotalThreads that has kTotalBytes of shared memory.
__device__ __forceinline__ float total_of(const Scratch<float>& partials, PartialColumns columns) {
  SharedMemory shared;
  const auto room = shared.take<float>(kTotalThreads / kWarpSize);
  float sum = 0;
  for (int64_t column = threadIdx.x; column < columns.count; column += kTotalThreads) {
    for (int64_t block = 0; block < columns.blocks; ++block) {
      sum += static_cast<float>(partials[block * columns.stride + columns.first + column]);
    }
  }
  return block_sum(sum, room);
}

}  // namespace normlab
