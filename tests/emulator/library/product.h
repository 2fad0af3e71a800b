// A matrix product as the emulated cuBLASLt computes it: in double, rounded once.
#pragma once

#include <cublasLt.h>

#include <cstdint>

namespace normlab::emulator {

// A column-major matrix: element (row, column) at column·leading_dimension + row.
struct ColumnMajor {
  cudaDataType_t type = CUDA_R_32F;
  uint64_t rows = 0;
  uint64_t columns = 0;
  int64_t leading_dimension = 0;

  uint64_t element_bytes() const { return type == CUDA_R_32F ? 4 : 2; }
  // From the first to the last element.
  uint64_t bytes() const;
};

// In what order the parts of a sum are added.
enum class SumOrder {
  fixed,
  as_they_come,  // in float, another time another order
};

// d = alpha · op(a) · op(b) + beta · c + bias of each row. All by value: whoever asked for it may
// have gone on when it runs.
struct Product {
  ColumnMajor a_layout, b_layout, c_layout, d_layout;
  cublasOperation_t a_operation, b_operation;
  const void* a;
  const void* b;
  const void* c;  // not read where beta is 0
  void* d;
  const void* bias;  // of d's type; null: none
  float alpha, beta;
  SumOrder order;

  void run() const;
};

}  // namespace normlab::emulator
