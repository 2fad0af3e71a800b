// Tensor: a view of numbers that somebody else owns.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "kernels/error.h"

namespace normlab {

enum class DType : uint8_t { f32, f64, bf16, i32 };

constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 4;
    case DType::f64:
      return 8;
    case DType::bf16:
      return 2;
    case DType::i32:
      return 4;
  }
  return 0;
}

template <typename T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::f32;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::f64;
}
template <>
constexpr DType dtype_of<int32_t>() {
  return DType::i32;
}

// Up to four extents, outermost first. As a matrix: `rows` is the product of all but the last.
struct Shape {
  std::array<int64_t, 4> extents{};
  int rank = 0;

  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<int64_t> list) {
    if (list.size() > extents.size()) throw Error("a shape of more than four extents");
    for (int64_t extent : list) extents[static_cast<size_t>(rank++)] = extent;
  }
  constexpr int64_t columns() const {
    return rank == 0 ? 0 : extents[static_cast<size_t>(rank - 1)];
  }
  constexpr int64_t rows() const {
    int64_t product = rank == 0 ? 0 : 1;
    for (int i = 0; i + 1 < rank; ++i) product *= extents[static_cast<size_t>(i)];
    return product;
  }
  constexpr int64_t elements() const { return rows() * columns(); }
  friend constexpr bool operator==(const Shape& a, const Shape& b) = default;
};

// {data, dtype, shape, row_stride}: the innermost dimension is contiguous; consecutive rows lie
// `row_stride` elements apart. Byte is std::byte, or const std::byte for a view that only reads.
// An empty view (no data, rank 0) stands for "absent" where a verb says that it may.
template <typename Byte>
struct TensorView {
  Byte* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
  int64_t row_stride = 0;

  TensorView() = default;
  TensorView(Byte* data, DType dtype, Shape shape, int64_t row_stride)
      : data(data), dtype(dtype), shape(shape), row_stride(row_stride) {}
  TensorView(Byte* data, DType dtype, Shape shape)
      : TensorView(data, dtype, shape, shape.columns()) {}

  // A view that reads, from one that writes.
  template <typename Writes>
  requires(std::is_const_v<Byte> && std::is_same_v<Writes, std::byte>)
  TensorView(const TensorView<Writes>& other)
      : TensorView(other.data, other.dtype, other.shape, other.row_stride) {}

  int64_t rows() const { return shape.rows(); }
  int64_t columns() const { return shape.columns(); }
  int64_t elements() const { return shape.elements(); }
  bool contiguous() const { return row_stride == columns() || rows() <= 1; }
  bool empty() const { return shape.rank == 0; }
  explicit operator bool() const { return !empty(); }

  // `count` rows from `first`, as (count, columns).
  TensorView row_slice(int64_t first, int64_t count) const {
    check(first >= 0 && count >= 0 && first + count <= rows(), "row slice inside the tensor");
    return {offset(first * row_stride), dtype, Shape{count, columns()}, row_stride};
  }
  // `count` columns from `first`, as (rows, count) with the same row stride.
  TensorView column_slice(int64_t first, int64_t count) const {
    check(first >= 0 && count >= 0 && first + count <= columns(), "column slice inside the tensor");
    return {offset(first), dtype, Shape{rows(), count}, row_stride};
  }
  // The same elements under another shape; for contiguous views.
  TensorView reshaped(Shape other) const {
    check(contiguous() && other.elements() == elements(), "reshape of as many elements");
    return {data, dtype, other};
  }
  // The first element as T. T must be the dtype's type; null in a measuring pass.
  template <typename T>
  auto as() const {
    check(dtype == dtype_of<T>(), "tensor has the type that is asked for");
    if constexpr (std::is_const_v<Byte>) {
      return reinterpret_cast<const T*>(data);
    } else {
      return reinterpret_cast<T*>(data);
    }
  }

 private:
  Byte* offset(int64_t elements) const {
    return data == nullptr ? nullptr : data + elements * size_of(dtype);
  }
};

using Tensor = TensorView<std::byte>;
using ConstTensor = TensorView<const std::byte>;

}  // namespace normlab
