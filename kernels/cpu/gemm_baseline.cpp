// For every processor of the architecture.
namespace {
constexpr int kVectorBytes = 16;
constexpr int kPanelRows = 6;
}  // namespace

#include "kernels/cpu/gemm_vectors.h"

normlab::GemmKernels normlab::gemm_kernels_baseline() {
  return {"baseline", Vectors<float>::kernel(), Vectors<double>::kernel()};
}
