#include "kernels/cpu/gemm_through_eigen.h"

namespace normlab {

void gemm(int64_t m, int64_t n, int64_t k, float alpha, Matrix<const float> a,
          Matrix<const float> b, float beta, Matrix<float> c) {
  gemm_through_eigen(m, n, k, alpha, a, b, beta, c);
}

void gemm(int64_t m, int64_t n, int64_t k, double alpha, Matrix<const double> a,
          Matrix<const double> b, double beta, Matrix<double> c) {
  gemm_through_eigen(m, n, k, alpha, a, b, beta, c);
}

}  // namespace normlab
