#include "kernels/tensor.h"

#include <vector>

#include "catch.h"

namespace normlab {
namespace {

struct Numbers {
  std::vector<float> values;
  Numbers() : values(24) {
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  }
  Tensor view(Shape shape) {
    return {reinterpret_cast<std::byte*>(values.data()), DType::f32, shape};
  }
};

TEST_CASE("Shape: rows are all extents but the last") {
  constexpr Shape shape{2, 3, 4};
  CHECK(shape.rows() == 6);
  CHECK(shape.columns() == 4);
  CHECK(shape.elements() == 24);
  CHECK(Shape{5}.rows() == 1);
  CHECK(Shape{}.elements() == 0);
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK(Shape{2, 3} != Shape{3, 2});
}

TEST_CASE("Tensor: slices look at the numbers of the whole") {
  Numbers numbers;
  const Tensor whole = numbers.view({4, 6});
  const Tensor rows = whole.row_slice(1, 2);
  CHECK(rows.shape == Shape{2, 6});
  CHECK(rows.as<float>()[0] == 6);
  CHECK(rows.contiguous());
  const Tensor columns = whole.column_slice(2, 3);
  CHECK(columns.shape == Shape{4, 3});
  CHECK(columns.row_stride == 6);
  CHECK(!columns.contiguous());
  CHECK(columns.as<float>()[columns.row_stride] == 8);
  const Tensor both = columns.row_slice(3, 1).column_slice(1, 2);
  CHECK(both.as<float>()[0] == 21);
  CHECK(both.contiguous());  // one row
}

TEST_CASE("Tensor: slices of higher ranks count rows of the last extent") {
  Numbers numbers;
  const Tensor slice = numbers.view({2, 3, 4}).row_slice(4, 2);
  CHECK(slice.shape == Shape{2, 4});
  CHECK(slice.as<float>()[0] == 16);
}

TEST_CASE("Tensor: a slice out of bounds is refused") {
  Numbers numbers;
  const Tensor whole = numbers.view({4, 6});
  CHECK_NOTHROW(whole.row_slice(4, 0));
  CHECK_THROWS_AS(whole.row_slice(3, 2), Error);
  CHECK_THROWS_AS(whole.row_slice(-1, 1), Error);
  CHECK_THROWS_AS(whole.row_slice(1, -1), Error);
  CHECK_NOTHROW(whole.column_slice(0, 6));
  CHECK_THROWS_AS(whole.column_slice(4, 3), Error);
  CHECK_THROWS_AS(whole.column_slice(-1, 1), Error);
}

TEST_CASE("Tensor: reshape keeps the numbers, and refuses other counts and strided views") {
  Numbers numbers;
  const Tensor whole = numbers.view({4, 6});
  const Tensor other = whole.reshaped({2, 3, 4});
  CHECK(other.rows() == 6);
  CHECK(other.as<float>()[other.row_stride] == 4);
  CHECK_THROWS_AS(whole.reshaped({5, 5}), Error);
  CHECK_THROWS_AS(whole.column_slice(0, 3).reshaped({12}), Error);
}

TEST_CASE("Tensor: numbers are read as what they are") {
  Numbers numbers;
  const ConstTensor reading = numbers.view({4, 6});
  CHECK(reading.as<float>()[7] == 7);
  CHECK_THROWS_AS(reading.as<double>(), Error);
  CHECK_THROWS_AS(reading.as<int32_t>(), Error);
}

TEST_CASE("Tensor: an empty view is absent, slices of one without data have none") {
  CHECK(!Tensor());
  const Tensor measured(nullptr, DType::f32, {4, 6});
  CHECK(measured);
  CHECK(measured.row_slice(2, 1).data == nullptr);
  CHECK(measured.column_slice(2, 1).data == nullptr);
}

}  // namespace
}  // namespace normlab
