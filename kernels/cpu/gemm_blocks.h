// A product in blocks: how it is cut, packed and divided among threads (Goto and van de Geijn 2008,
// "Anatomy of High-Performance Matrix Multiplication").
#pragma once

#include "kernels/cpu/gemm_kernel.h"

namespace normlab {

// gemm() of gemm.h by one kernel; the innermost vectors are a test's to choose.
template <typename Scalar>
void gemm_by(const GemmKernel<Scalar>& kernel, int threads, int64_t m, int64_t n, int64_t k,
             Scalar alpha, Matrix<const Scalar> a, Matrix<const Scalar> b, Store store,
             Matrix<Scalar> c);

}  // namespace normlab
