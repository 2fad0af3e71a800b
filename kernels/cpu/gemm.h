// One product on one thread: the piece from which all products on the CPU are made. Two files
// implement it, gemm_onednn.cpp and gemm_eigen.cpp; CMake chooses.
#pragma once

#include <cstdint>

namespace normlab {

enum class Transpose { no, yes };

template <typename Scalar>
struct Matrix {
  Scalar* data;
  int64_t stride;  // elements between rows, as stored
  Transpose transpose = Transpose::no;
};

// c (m,n) = alpha · op(a) (m,k) · op(b) (k,n) + beta · c. Single-threaded; c overlaps nothing.
// With beta 0, c may hold anything, NaN included.
void gemm(int64_t m, int64_t n, int64_t k, float alpha, Matrix<const float> a,
          Matrix<const float> b, float beta, Matrix<float> c);
void gemm(int64_t m, int64_t n, int64_t k, double alpha, Matrix<const double> a,
          Matrix<const double> b, double beta, Matrix<double> c);

}  // namespace normlab
