// What kernels ask of a CUDA device. tests/emulator/include shadows this file verb by verb, so that
// the same kernels run on the CPU; a verb that is added here is added there.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace normlab {

// The value of lane `lane ^ mask`. All 32 lanes of the warp take part (CUDA C++ Programming Guide,
// "Warp Shuffle Functions").
template <typename T>
__device__ __forceinline__ T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

// Whether `predicate` holds for any lane of the warp; all 32 take part ("Warp Vote Functions").
__device__ __forceinline__ bool warp_any(bool predicate) {
  return __any_sync(0xffffffffu, predicate) != 0;
}

// A part of the block's shared memory.
template <typename T>
class SharedArray {
 public:
  __device__ __forceinline__ explicit SharedArray(T* data) : data_(data) {}
  __device__ __forceinline__ T& operator[](int64_t index) const { return data_[index]; }

 private:
  T* data_;
};

// Cuts the block's dynamic shared memory into arrays, 16-byte aligned, in the order of the calls.
class SharedMemory {
 public:
  template <typename T>
  __device__ __forceinline__ SharedArray<T> take(int64_t size) {
    extern __shared__ __align__(1024) unsigned char block_shared_memory[];
    auto* data = reinterpret_cast<T*>(block_shared_memory + used_bytes_);
    used_bytes_ += (size * static_cast<int64_t>(sizeof(T)) + 15) / 16 * 16;
    return SharedArray<T>(data);
  }

 private:
  int64_t used_bytes_ = 0;
};

}  // namespace normlab
