// Sums over threads, always in the same order: registers, then a warp, then a block, then blocks'
// partials. There is no other way to add here.
#pragma once

#include "kernels/cuda/device.h"

namespace normlab {

constexpr int kWarpSize = 32;

__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x % kWarpSize); }
__device__ __forceinline__ int warp_index() { return static_cast<int>(threadIdx.x / kWarpSize); }

// Over the 32 lanes; every lane has the result.
template <typename T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}
__device__ __forceinline__ float warp_maximum(float value) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2)
    value = fmaxf(value, shuffle_xor(value, mask));
  return value;
}

// Over a block of whole warps in x; every thread has the result. `room` holds a number for each
// warp, and may be used again after the call.
template <typename T>
__device__ __forceinline__ T block_sum(T value, SharedArray<T> room) {
  value = warp_sum(value);
  if (lane_index() == 0) room[warp_index()] = value;
  __syncthreads();
  T sum = 0;
  for (unsigned warp = 0; warp < blockDim.x / kWarpSize; ++warp) sum += static_cast<T>(room[warp]);
  __syncthreads();
  return sum;
}
// Of numbers in memory.
__device__ __forceinline__ double block_sum_of(const float* numbers, int64_t count,
                                               SharedArray<double> room) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += static_cast<double>(numbers[i]);
  return block_sum(sum, room);
}
__device__ __forceinline__ float block_maximum(float value, SharedArray<float> room) {
  value = warp_maximum(value);
  if (lane_index() == 0) room[warp_index()] = value;
  __syncthreads();
  float largest = static_cast<float>(room[0]);
  for (unsigned warp = 1; warp < blockDim.x / kWarpSize; ++warp) {
    largest = fmaxf(largest, static_cast<float>(room[warp]));
  }
  __syncthreads();
  return largest;
}

}  // namespace normlab
