// ldmatrix and mma: who holds what of a matrix (PTX ISA 9.0, "Warp-level matrix load instruction:
// ldmatrix" and "Matrix fragments for mma.m16n8k16").
#include <algorithm>

#include "kernels/bfloat16.h"
#include "tests/emulator/emulator.h"

namespace normlab::emulator {
namespace {

struct Loading {
  const MatrixRow* row;  // of matrix lane/8, row lane%8
  uint32_t* fragment;
};

uint16_t element(const WarpArguments& all, int matrix, int row, int column) {
  return static_cast<const Loading*>(all.of_lane[matrix * 8 + row])->row->elements[column];
}

uint32_t pair(uint16_t low, uint16_t high) { return low | uint32_t{high} << 16; }

struct Product {
  float* d;
  const uint32_t* a;
  uint32_t b[2];
};

float low(uint32_t word) { return to_float({static_cast<uint16_t>(word)}); }
float high(uint32_t word) { return to_float({static_cast<uint16_t>(word >> 16)}); }

constexpr int kRows = 16, kColumns = 8, kDepth = 16;

void multiply(const WarpArguments& all) {
  float a[kDepth][kRows], b[kDepth][kColumns], d[kRows][kColumns];
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto& mine = *static_cast<const Product*>(all.of_lane[lane]);
    const int group = lane / 4, k = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) {
      const int row = group + i % 2 * 8, first = k + i / 2 * 8;
      a[first][row] = low(mine.a[i]);
      a[first + 1][row] = high(mine.a[i]);
      d[group + i / 2 * 8][k + i % 2] = mine.d[i];
    }
    for (int i = 0; i < 2; ++i) {
      b[k + i * 8][group] = low(mine.b[i]);
      b[k + i * 8 + 1][group] = high(mine.b[i]);
    }
  }
  for (int k = 0; k < kDepth; ++k) {
    for (int row = 0; row < kRows; ++row) {
      for (int column = 0; column < kColumns; ++column) {
        d[row][column] += a[k][row] * b[k][column];
      }
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto& mine = *static_cast<const Product*>(all.of_lane[lane]);
    for (int i = 0; i < 4; ++i) mine.d[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
  }
}

}  // namespace

void load_matrices(uint32_t (&fragment)[4], const MatrixRow& row, std::source_location place) {
  Loading argument{&row, fragment};
  warp_operation("ldmatrix_x4", place, &argument, [](const WarpArguments& all) {
    for (int lane = 0; lane < kLanes; ++lane) {
      uint32_t* mine = static_cast<const Loading*>(all.of_lane[lane])->fragment;
      const int row = lane / 4, column = lane % 4 * 2;
      for (int i = 0; i < 4; ++i) {
        mine[i] = pair(element(all, i, row, column), element(all, i, row, column + 1));
      }
    }
  });
}

void load_matrices_transposed(uint32_t (&fragment)[4], const MatrixRow& row,
                              std::source_location place) {
  Loading argument{&row, fragment};
  warp_operation("ldmatrix_x4_transposed", place, &argument, [](const WarpArguments& all) {
    for (int lane = 0; lane < kLanes; ++lane) {
      uint32_t* mine = static_cast<const Loading*>(all.of_lane[lane])->fragment;
      const int row = lane % 4 * 2, column = lane / 4;
      for (int i = 0; i < 4; ++i) {
        mine[i] = pair(element(all, i, row, column), element(all, i, row + 1, column));
      }
    }
  });
}

void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                  std::source_location place) {
  Product argument{d, a, {b0, b1}};
  warp_operation("mma_m16n8k16", place, &argument, multiply);
}

}  // namespace normlab::emulator
