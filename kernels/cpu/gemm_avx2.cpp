// 16 registers of 32 bytes: 12 of sums, 2 of the right panel, 1 of a number of the left one.
namespace {
constexpr int kVectorBytes = 32;
constexpr int kPanelRows = 6;
}  // namespace

#include "kernels/cpu/gemm_vectors.h"

normlab::GemmKernels normlab::gemm_kernels_avx2() {
  return {"AVX2", Vectors<float>::kernel(), Vectors<double>::kernel()};
}
