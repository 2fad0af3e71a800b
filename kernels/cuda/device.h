// What kernels ask of a CUDA device. tests/emulator/include shadows this file verb by verb, so that
// the same kernels run on the CPU; a verb that is added here is added there, and to
// tests/conformance, which compares the two bit by bit.
//
// CUDA's own functions where there are some; else PTX, beside the sentence of the PTX ISA manual
// (version 9.0) that it implements. Warp verbs take all 32 lanes.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/bfloat16.h"

namespace normlab {

// --- Warps

// The value of lane `lane ^ mask` (CUDA C++ Programming Guide, "Warp Shuffle Functions").
template <typename T>
__device__ __forceinline__ T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

// The value of lane `lane`, the same in all.
template <typename T>
__device__ __forceinline__ T shuffle(T value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}

// Whether `predicate` holds for any lane of the warp ("Warp Vote Functions").
__device__ __forceinline__ bool warp_any(bool predicate) {
  return __any_sync(0xffffffffu, predicate) != 0;
}

// Bit i: whether `predicate` holds for lane i.
__device__ __forceinline__ uint32_t warp_ballot(bool predicate) {
  return __ballot_sync(0xffffffffu, predicate);
}

// --- Barriers. __syncthreads() is CUDA's own

// Waits for `threads` threads of the block (a multiple of 32, whole warps) at barrier `id`, 1
// to 15. "bar.sync a, b: b specifies the number of threads participating in the barrier" (PTX,
// barrier).
__device__ __forceinline__ void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// --- Numbers

// 2^x, within 2 ulp, subnormal results are 0 ("ex2.approx.ftz.f32 implements a fast approximation
// to 2^a").
__device__ __forceinline__ float exp2_approximate(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Two numbers rounded to bf16, `low` in the lower half ("For .bf16x2: two inputs a and b of .f32
// are converted into .bf16 and packed, a in the upper half").
__device__ __forceinline__ uint32_t pack_bfloat16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

__device__ __forceinline__ BFloat16 to_bfloat16(float x) {
  return {static_cast<uint16_t>(pack_bfloat16(x, 0.0f))};
}

// --- Shared memory. All of it is dynamic: a kernel cuts what its launch asks for into arrays,
// whose sizes may be constants, and declares no static __shared__ of its own

// A part of the block's shared memory.
template <typename T>
class SharedArray {
 public:
  __device__ __forceinline__ explicit SharedArray(T* data) : data_(data) {}
  __device__ __forceinline__ T& operator[](int64_t index) const { return data_[index]; }
  // The part from element `first` on.
  __device__ __forceinline__ SharedArray from(int64_t first) const {
    return SharedArray(data_ + first);
  }
  // Address in the shared window, for PTX.
  __device__ __forceinline__ uint32_t address(int64_t index) const {
    return static_cast<uint32_t>(__cvta_generic_to_shared(data_ + index));
  }

 private:
  T* data_;
};

// Cuts the block's dynamic shared memory into arrays, each 16-byte aligned (the first 1024), in the
// order of the calls.
class SharedMemory {
 public:
  template <typename T>
  __device__ __forceinline__ SharedArray<T> take(int64_t size) {
    extern __shared__ __align__(1024) unsigned char block_shared_memory[];
    auto* data = reinterpret_cast<T*>(block_shared_memory + used_bytes_);
    used_bytes_ += shared_array_bytes<T>(size);
    return SharedArray<T>(data);
  }
  // What an array takes, for the launch.
  template <typename T>
  static constexpr int64_t shared_array_bytes(int64_t size) {
    return (size * static_cast<int64_t>(sizeof(T)) + 15) / 16 * 16;
  }

 private:
  int64_t used_bytes_ = 0;
};

// Memory of the device that kernels hand numbers through: written by one, read by the next. Made on
// the host, passed to kernels by value.
template <typename T>
class Scratch {
 public:
  Scratch(T* data, int64_t size) : data_(data), size_(size) {}
  __device__ __forceinline__ T& operator[](int64_t index) const { return data_[index]; }
  int64_t size() const { return size_; }

 private:
  T* data_;
  int64_t size_;
};

// --- Asynchronous copies (sm_80)

// Copies 16 bytes from global to shared memory, both 16-byte aligned, or writes zeros where `valid`
// is false (then `source` is not read). Lands at the cp_async_wait that covers its group; other
// threads see it after a barrier that follows. "cp.async.cg … If src-size is less than cp-size, the
// remaining bytes in dst are filled with zeros."
template <typename T>
__device__ __forceinline__ void cp_async_16(SharedArray<T> target, int64_t index, const T* source,
                                            bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target.address(index)),
               "l"(source), "r"(valid ? 16 : 0)
               : "memory");
}

// "cp.async.commit_group commits all prior initiated but uncommitted cp.async operations into a
// cp.async-group."
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most N of this thread's latest groups are pending ("cp.async.wait_group N").
template <int N>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// --- Tensor cores (sm_80)

// Four 8×8 matrices of bf16. Lane l gives the place of row l%8 of matrix l/8 (8 elements, 16-byte
// aligned), and receives of matrix i, in fragment[i], row l/4, columns 2·(l%4) and the next.
// "ldmatrix.sync.aligned.m8n8.x4.shared.b16".
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&fragment)[4], SharedArray<BFloat16> array,
                                            int64_t index) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(array.address(index))
               : "memory");
}

// The same, each matrix transposed on the way ("the optional qualifier .trans indicates that the
// matrix is loaded in column-major format").
__device__ __forceinline__ void ldmatrix_x4_transposed(uint32_t (&fragment)[4],
                                                       SharedArray<BFloat16> array, int64_t index) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(array.address(index))
               : "memory");
}

// d (16,8) += a (16,16) · b (16,8), a and b in bf16. Lane l, with g = l/4 and t = l%4, holds
//   a[0]: (g, 2t..), a[1]: (g+8, 2t..), a[2]: (g, 2t+8..), a[3]: (g+8, 2t+8..)   [row, column]
//   b0: (2t.., g), b1: (2t+8.., g)                                                [k, column]
//   d[0], d[1]: (g, 2t), (g, 2t+1); d[2], d[3]: (g+8, 2t), (g+8, 2t+1)
// "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32".
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace normlab
