// The innermost loops of a product, once for each kind of vectors that a processor may have.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/gemm.h"

namespace normlab {

// Lines of a matrix: rows of the left one, columns of the right one, each of `depth` numbers along
// k. One of the two distances is 1.
template <typename Scalar>
struct Lines {
  const Scalar* data;
  int64_t line;   // elements from a line to the next
  int64_t along;  // elements from a number to the next along k
  int64_t count;
  int64_t depth;
};

// One panel of the left matrix by one of the right.
template <typename Scalar>
struct PanelProduct {
  const Scalar* left;
  const Scalar* right;
  int64_t depth;
  Scalar alpha;
  Store store;
  Scalar* c;
  int64_t stride;
  int64_t rows, columns;  // of c, at most the kernel's
  const Scalar* soon;     // what will be read next, so many elements
  int64_t soon_count;
};

template <typename Scalar>
struct GemmKernel {
  int64_t rows;     // of a panel of the left matrix
  int64_t columns;  // of one of the right
  // The first so many lines, as (depth, rows) or (depth, columns); lines that are not there are 0.
  // Up to kOverrun bytes behind a left panel are written too: panels are packed in their order.
  void (*pack_left)(Scalar* panel, const Lines<Scalar>& lines);
  void (*pack_right)(Scalar* panel, const Lines<Scalar>& lines);
  void (*multiply)(const PanelProduct<Scalar>& product);
  // c[j] (+)= alpha · Σ_i a[i] · b[j·stride + i], for j < count, i < depth.
  void (*dots)(Scalar* c, Store store, Scalar alpha, const Scalar* a, const Scalar* b,
               int64_t stride, int64_t count, int64_t depth);
};

constexpr int64_t kOverrun = 64;

// gemm() of gemm.h by one kernel: the innermost vectors are a test's to choose.
template <typename Scalar>
void gemm_by(const GemmKernel<Scalar>& kernel, int threads, int64_t m, int64_t n, int64_t k,
             Scalar alpha, Matrix<const Scalar> a, Matrix<const Scalar> b, Store store,
             Matrix<Scalar> c);

// The kernels of one kind of vectors.
struct GemmKernels {
  const char* name;
  GemmKernel<float> single_precision;
  GemmKernel<double> double_precision;
};

// Those that this processor runs, the fastest first.
const std::vector<GemmKernels>& gemm_kernels();

// Each in a file that is compiled for such processors.
GemmKernels gemm_kernels_baseline();
GemmKernels gemm_kernels_avx2();
GemmKernels gemm_kernels_avx512();

}  // namespace normlab
