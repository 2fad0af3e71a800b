// The product by Eigen, for the types that nothing faster does.
#pragma once

#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>

#include "kernels/cpu/gemm.h"

namespace normlab {

template <typename Scalar>
void gemm_through_eigen(int64_t m, int64_t n, int64_t k, Scalar alpha, Matrix<const Scalar> a,
                        Matrix<const Scalar> b, Scalar beta, Matrix<Scalar> c) {
  using Stored = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using View = Eigen::Map<const Stored, Eigen::Unaligned, Eigen::OuterStride<>>;
  const bool a_turned = a.transpose == Transpose::yes;
  const bool b_turned = b.transpose == Transpose::yes;
  const View left(a.data, a_turned ? k : m, a_turned ? m : k, Eigen::OuterStride<>(a.stride));
  const View right(b.data, b_turned ? n : k, b_turned ? k : n, Eigen::OuterStride<>(b.stride));
  Eigen::Map<Stored, Eigen::Unaligned, Eigen::OuterStride<>> out(c.data, m, n,
                                                                 Eigen::OuterStride<>(c.stride));
  if (beta == 0) {
    out.setZero();
  } else if (beta != 1) {
    out *= beta;
  }
  if (a_turned && b_turned) {
    out.noalias() += alpha * left.transpose() * right.transpose();
  } else if (a_turned) {
    out.noalias() += alpha * left.transpose() * right;
  } else if (b_turned) {
    out.noalias() += alpha * left * right.transpose();
  } else {
    out.noalias() += alpha * left * right;
  }
}

}  // namespace normlab
