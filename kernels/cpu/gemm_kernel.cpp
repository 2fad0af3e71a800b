#include "kernels/cpu/gemm_kernel.h"

#include "kernels/ops.h"

namespace normlab {
namespace {

std::vector<GemmKernels> kernels_of_this_processor() {
  std::vector<GemmKernels> kernels;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (has_avx2 && __builtin_cpu_supports("avx512f")) kernels.push_back(gemm_kernels_avx512());
  if (has_avx2) kernels.push_back(gemm_kernels_avx2());
#endif
  kernels.push_back(gemm_kernels_baseline());
  return kernels;
}

}  // namespace

const std::vector<GemmKernels>& gemm_kernels() {
  static const std::vector<GemmKernels> kernels = kernels_of_this_processor();
  return kernels;
}

std::string cpu_vectors() { return gemm_kernels().front().name; }

}  // namespace normlab
