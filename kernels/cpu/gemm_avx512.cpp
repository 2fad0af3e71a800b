// 32 registers of 64 bytes: 28 of sums, 2 of the right panel.
namespace {
constexpr int kVectorBytes = 64;
constexpr int kPanelRows = 14;
}  // namespace

#include "kernels/cpu/gemm_vectors.h"

normlab::GemmKernels normlab::gemm_kernels_avx512() {
  return {"AVX-512", Vectors<float>::kernel(), Vectors<double>::kernel()};
}
