// Vectors of a row: how kernels read and write activations, 16 bytes at once where rows allow it,
// always computing in float.
#pragma once

#include <bit>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "kernels/bfloat16.h"
#include "kernels/cuda/device.h"
#include "kernels/tensor.h"

namespace normlab {

// Elements of T in 16 bytes.
template <typename T>
constexpr int kVectorWidth = 16 / static_cast<int>(sizeof(T));

// A matrix in a kernel: row r begins at data + r·stride. No data: absent.
template <typename T>
struct Rows {
  T* data = nullptr;
  int64_t stride = 0;

  __device__ __forceinline__ T* operator[](int64_t row) const { return data + row * stride; }
  __device__ __forceinline__ bool present() const { return data != nullptr; }
};

template <typename T>
Rows<T> rows_of(Tensor tensor) {
  return tensor ? Rows<T>{tensor.as<T>(), tensor.row_stride} : Rows<T>{};
}
template <typename T>
Rows<const T> const_rows_of(ConstTensor tensor) {
  return tensor ? Rows<const T>{tensor.as<T>(), tensor.row_stride} : Rows<const T>{};
}

// Whether every row of every tensor that is there can be read in vectors of `width` elements.
inline bool fits_vectors(int width, std::initializer_list<ConstTensor> tensors) {
  for (const ConstTensor& tensor : tensors) {
    if (!tensor) continue;
    const int64_t vector_bytes = width * size_of(tensor.dtype);
    const bool aligned =
        reinterpret_cast<uintptr_t>(tensor.data) % static_cast<uintptr_t>(vector_bytes) == 0;
    const bool strides = tensor.rows() <= 1 || tensor.row_stride % width == 0;
    if (!aligned || !strides || tensor.columns() % width != 0) return false;
  }
  return true;
}

// Calls body(width), width an integral_constant: the whole vector where the tensors allow it,
// else 1.
template <typename T, typename Body>
void with_vector_width(std::initializer_list<ConstTensor> tensors, const Body& body) {
  if (fits_vectors(kVectorWidth<T>, tensors)) {
    body(std::integral_constant<int, kVectorWidth<T>>{});
  } else {
    body(std::integral_constant<int, 1>{});
  }
}

template <int kCount>
struct alignas(4 * kCount) Words {
  uint32_t word[kCount];
};

__device__ __forceinline__ void load(float (&x)[1], const float* source) { x[0] = *source; }
__device__ __forceinline__ void load(float (&x)[1], const BFloat16* source) {
  x[0] = to_float(*source);
}
__device__ __forceinline__ void store(float* target, const float (&x)[1]) { *target = x[0]; }
__device__ __forceinline__ void store(BFloat16* target, const float (&x)[1]) {
  *target = to_bfloat16(x[0]);
}

// kWidth elements from an address that is a multiple of their bytes.
template <int kWidth>
__device__ __forceinline__ void load(float (&x)[kWidth], const float* source) {
  const auto words = *reinterpret_cast<const Words<kWidth>*>(source);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) x[i] = std::bit_cast<float>(words.word[i]);
}
template <int kWidth>
__device__ __forceinline__ void load(float (&x)[kWidth], const BFloat16* source) {
  const auto words = *reinterpret_cast<const Words<kWidth / 2>*>(source);
#pragma unroll
  for (int i = 0; i < kWidth / 2; ++i) {
    x[2 * i] = std::bit_cast<float>(words.word[i] << 16);
    x[2 * i + 1] = std::bit_cast<float>(words.word[i] & 0xFFFF0000u);
  }
}
template <int kWidth>
__device__ __forceinline__ void store(float* target, const float (&x)[kWidth]) {
  Words<kWidth> words;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) words.word[i] = std::bit_cast<uint32_t>(x[i]);
  *reinterpret_cast<Words<kWidth>*>(target) = words;
}
template <int kWidth>
__device__ __forceinline__ void store(BFloat16* target, const float (&x)[kWidth]) {
  Words<kWidth / 2> words;
#pragma unroll
  for (int i = 0; i < kWidth / 2; ++i) words.word[i] = pack_bfloat16(x[2 * i], x[2 * i + 1]);
  *reinterpret_cast<Words<kWidth / 2>*>(target) = words;
}

// What of x is left once it is stored as T.
template <typename T>
__device__ __forceinline__ float rounded(float x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return to_float(to_bfloat16(x));
  } else {
    return x;
  }
}

// --- Elementwise kernels: threads along a row, blocks along rows; both go on by strides

// body(row, column) for each vector of kWidth columns, once over the whole grid.
template <int kWidth, typename Body>
__device__ __forceinline__ void for_each_vector(int64_t rows, int64_t columns, const Body& body) {
  const int64_t first = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kWidth;
  const int64_t stride = int64_t{gridDim.x} * blockDim.x * kWidth;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    for (int64_t column = first; column < columns; column += stride) body(row, column);
  }
}

struct ElementGrid {
  dim3 grid;
  dim3 block;
};

// For for_each_vector: at most about `blocks` blocks, none of them idle.
inline ElementGrid element_grid(int64_t rows, int64_t columns, int width, int64_t blocks) {
  constexpr int64_t kMostThreads = 256;
  constexpr int64_t kMostBlocksInY = 65535;
  const int64_t vectors = (columns + width - 1) / width;
  const int64_t threads = vectors >= kMostThreads ? kMostThreads : (vectors + 31) / 32 * 32;
  const auto at_most = [](int64_t value, int64_t most) { return value < most ? value : most; };
  const int64_t across = at_most((vectors + threads - 1) / threads, blocks);
  const int64_t down = at_most(at_most(rows, (blocks + across - 1) / across), kMostBlocksInY);
  return {dim3(static_cast<unsigned>(across), static_cast<unsigned>(down)),
          dim3(static_cast<unsigned>(threads))};
}

// Rows that follow each other without a gap are one long row.
struct Extents {
  int64_t rows;
  int64_t columns;
};
inline Extents extents_of(std::initializer_list<ConstTensor> tensors) {
  const ConstTensor& first = *tensors.begin();
  bool contiguous = true;
  for (const ConstTensor& tensor : tensors) contiguous = contiguous && tensor.contiguous();
  return contiguous ? Extents{1, first.elements()} : Extents{first.rows(), first.columns()};
}

}  // namespace normlab
