#include "tests/emulator/library/product.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/bfloat16.h"

namespace normlab::emulator {
namespace {

double element(const void* data, cudaDataType_t type, uint64_t index) {
  if (type == CUDA_R_32F) return static_cast<double>(static_cast<const float*>(data)[index]);
  return static_cast<double>(to_float(static_cast<const BFloat16*>(data)[index]));
}

// To nearest, ties to even, in one rounding: by way of the float nearest to zero, whose last bit
// remembers whether anything was lost.
BFloat16 to_bfloat16_once(double value) {
  auto nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || !std::isfinite(nearest)) {
    return round_to_bfloat16(nearest);
  }
  if (std::abs(static_cast<double>(nearest)) > std::abs(value))
    nearest = std::nextafter(nearest, 0.0f);
  return round_to_bfloat16(std::bit_cast<float>(std::bit_cast<uint32_t>(nearest) | 1u));
}

void set_element(void* data, cudaDataType_t type, uint64_t index, double value) {
  if (type == CUDA_R_32F) {
    static_cast<float*>(data)[index] = static_cast<float>(value);
  } else {
    static_cast<BFloat16*>(data)[index] = to_bfloat16_once(value);
  }
}

// op(matrix), row by row.
struct Factor {
  uint64_t rows;
  uint64_t columns;
  std::vector<double> values;
  const double* row(uint64_t index) const { return values.data() + index * columns; }
};

Factor read_factor(const void* data, const ColumnMajor& layout, bool transposed) {
  Factor factor{layout.rows, layout.columns, {}};
  if (transposed) std::swap(factor.rows, factor.columns);
  factor.values.resize(factor.rows * factor.columns);
  const auto stride = static_cast<uint64_t>(layout.leading_dimension);
  for (uint64_t column = 0; column < layout.columns; ++column) {
    for (uint64_t row = 0; row < layout.rows; ++row) {
      const uint64_t target =
          transposed ? column * factor.columns + row : row * factor.columns + column;
      factor.values[target] = element(data, layout.type, column * stride + row);
    }
  }
  return factor;
}

double sum_in_order(const double* left, const double* right, uint64_t count) {
  double sum = 0;
  for (uint64_t k = 0; k < count; ++k) sum += left[k] * right[k];
  return sum;
}

// Beginning anywhere.
double sum_from(const double* left, const double* right, uint64_t count, uint64_t first) {
  float sum = 0;
  for (uint64_t k = 0; k < count; ++k) {
    const uint64_t place = (first + k) % count;
    sum += static_cast<float>(left[place] * right[place]);
  }
  return static_cast<double>(sum);
}

// How many products have been made in no fixed order.
uint64_t& unordered_products() {
  static uint64_t count = 0;
  return count;
}

}  // namespace

uint64_t ColumnMajor::bytes() const {
  if (rows == 0 || columns == 0) return 0;
  return ((columns - 1) * static_cast<uint64_t>(leading_dimension) + rows) * element_bytes();
}

void Product::run() const {
  const Factor left = read_factor(a, a_layout, a_operation == CUBLAS_OP_T);
  // Transposed, so that both are read along the sum.
  const Factor right = read_factor(b, b_layout, b_operation == CUBLAS_OP_N);
  const uint64_t first = order == SumOrder::fixed ? 0 : ++unordered_products();
  const auto c_stride = static_cast<uint64_t>(c_layout.leading_dimension);
  const auto d_stride = static_cast<uint64_t>(d_layout.leading_dimension);
  for (uint64_t column = 0; column < d_layout.columns; ++column) {
    for (uint64_t row = 0; row < d_layout.rows; ++row) {
      const double sum = order == SumOrder::fixed
                             ? sum_in_order(left.row(row), right.row(column), left.columns)
                             : sum_from(left.row(row), right.row(column), left.columns, first);
      double value = static_cast<double>(alpha) * sum;
      if (beta != 0) {
        value += static_cast<double>(beta) * element(c, c_layout.type, column * c_stride + row);
      }
      if (bias != nullptr) value += element(bias, d_layout.type, row);
      set_element(d, d_layout.type, column * d_stride + row, value);
    }
  }
}

}  // namespace normlab::emulator
