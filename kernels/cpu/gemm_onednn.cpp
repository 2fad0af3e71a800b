#include <dnnl.h>

#include "kernels/cpu/gemm_through_eigen.h"

namespace normlab {

void gemm(int64_t m, int64_t n, int64_t k, float alpha, Matrix<const float> a,
          Matrix<const float> b, float beta, Matrix<float> c) {
  const auto letter = [](Transpose transpose) { return transpose == Transpose::yes ? 'T' : 'N'; };
  const dnnl_status_t status =
      dnnl_sgemm(letter(a.transpose), letter(b.transpose), m, n, k, alpha, a.data, a.stride, b.data,
                 b.stride, beta, c.data, c.stride);
  // oneDNN refuses strides below the width even where a single row makes them meaningless.
  if (status != dnnl_success) gemm_through_eigen(m, n, k, alpha, a, b, beta, c);
}

// oneDNN has no double.
void gemm(int64_t m, int64_t n, int64_t k, double alpha, Matrix<const double> a,
          Matrix<const double> b, double beta, Matrix<double> c) {
  gemm_through_eigen(m, n, k, alpha, a, b, beta, c);
}

}  // namespace normlab
