// The second level of training in bf16 alone (kernels/cpu/pure_bf16.h), on every device.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>

#include "kernels/forwarding_ops.h"

namespace normlab {

// Gradients of parameters are bf16 numbers too: what a verb adds is rounded, then the sum. (A head
// whose logits are made in several pieces adds each piece.)
class Bf16GradientsOps final : public ForwardingOps {
 public:
  // On the device: sum ← rounded(sum + rounded(more)), each a float (R,C).
  using AddRounded = std::function<void(Tensor sum, ConstTensor more)>;
  Bf16GradientsOps(std::unique_ptr<Ops> rounding, AddRounded add_rounded);

  void embedding_backward(Tensor d_token_table, Tensor d_position_table, ConstTensor d_x,
                          ConstTensor tokens) override;
  void residual_norm_backward(Tensor d_sum, Tensor d_gain, Tensor d_bias, ConstTensor d_normed,
                              ConstTensor d_residual, ConstTensor sum, ConstTensor statistics,
                              const Norm& norm) override;
  void elementwise_norm_backward(Tensor d_x, const ElementwiseNormGradients& d_parameters,
                                 ConstTensor d_y, ConstTensor d_residual, ConstTensor x,
                                 const ElementwiseNorm& norm) override;
  void scale_backward(Tensor d_x, Tensor d_factor, ConstTensor d_y, ConstTensor x,
                      ConstTensor factor) override;
  void gpas_backward(Tensor d_gate, ConstTensor d_y, ConstTensor x, ConstTensor gate) override;
  void linear_backward_weight(Tensor d_weight, Tensor d_bias, ConstTensor d_y,
                              ConstTensor x) override;

 private:
  // Has `verb` add to zeros in the place of some gradients, which may be empty, then adds those.
  template <typename Verb>
  void accumulate(std::initializer_list<Tensor> gradients, const Verb& verb);

  std::unique_ptr<Ops> owned_;
  AddRounded add_rounded_;
  Memory room_;
};

}  // namespace normlab
