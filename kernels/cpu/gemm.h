// Products of matrices, by hand: what dense layers and attention on the CPU are made of.
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

enum class Store { replace, add };

// c (m,n) = alpha · op(a) (m,k) · op(b) (k,n), or c += that, on so many threads; c overlaps
// nothing. An element of c is a sum along k in the order of k, in parts of equal length of at most
// 256: its bits depend on neither threads nor tiles, nor on which of the processors with fused
// multiply-add computes it. (Up to kFewRows rows of a, where k is contiguous in both, are dot
// products in 64 bytes of partial sums: as independent.) What is packed lies in memory of the
// calling thread, at most 16 MiB in single precision, which it keeps; without it std::bad_alloc,
// which ends the process where attention multiplies within a team of threads.
template <typename Scalar>
void gemm(int threads, int64_t m, int64_t n, int64_t k, Scalar alpha, Matrix<const Scalar> a,
          Matrix<const Scalar> b, Store store, Matrix<Scalar> c);

constexpr int64_t kFewRows = 16;

}  // namespace normlab
