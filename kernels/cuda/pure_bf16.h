// Training in bf16 alone on a GPU: what kernels/cpu/pure_bf16.h says of its third level. The first
// is CudaOps without masters, the second Bf16GradientsOps over it.
#pragma once

#include <memory>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/vector.h"
#include "kernels/forwarding_ops.h"

namespace normlab {

// The number that is stored, as a float.
__device__ __forceinline__ float stored(float x) { return rounded<BFloat16>(x); }

// Rounds where Bf16ForwardOps does. Sums over a row or over rows are made in another order.
class CudaBf16ForwardOps final : public ForwardingOps {
 public:
  explicit CudaBf16ForwardOps(std::unique_ptr<CudaOps<BFloat16>> ops);

  void scaled_sum(Tensor y, ConstTensor a, ConstTensor b, const SumFactors& factors) override;
  void residual_norm_forward(Tensor sum, Tensor normed, Tensor statistics, ConstTensor residual,
                             ConstTensor branch, const Norm& norm) override;
  void residual_norm_backward(Tensor d_sum, Tensor d_gain, Tensor d_bias, ConstTensor d_normed,
                              ConstTensor d_residual, ConstTensor sum, ConstTensor statistics,
                              const Norm& norm) override;
  void swiglu_forward(Tensor y, ConstTensor gate_up) override;
  void swiglu_backward(Tensor d_gate_up, ConstTensor d_y, ConstTensor gate_up) override;
  void rope(Tensor x, int64_t tokens, int64_t head_size, double base, int64_t first_position,
            RopeDirection direction) override;
  void cross_entropy_forward(Tensor losses, ConstTensor logits, ConstTensor targets) override;
  void cross_entropy_backward(Tensor losses, Tensor logits, ConstTensor targets) override;
  void add_loss(ConstTensor losses) override;

 private:
  void prepare_rotations(int64_t positions, int64_t head_size, double base);

  std::unique_ptr<CudaOps<BFloat16>> cuda_;
  Memory loss_;  // (1,1) f32
  // cos and sin of each position, (positions, D/2) each, floats that hold bf16 numbers.
  Memory rotations_;
  int64_t rotation_positions_ = 0, rotation_head_size_ = 0;
  double rotation_base_ = 0;
};

}  // namespace normlab
