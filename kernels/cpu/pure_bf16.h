// Training in bf16 alone, as github.com/lmsdss/LayerNorm-Scaling does it, in three levels, each a
// decorator of the one before: what a difference from fp32 masters comes from can be told apart.
// Numbers are stored as everywhere, so moments and gradients are floats that hold bf16 numbers.
#pragma once

#include <memory>

#include "kernels/forwarding_ops.h"

namespace normlab {

// Weights and both of Adam's moments are bf16 numbers, updated as kernels/pure_adam.h says; there are
// no masters.
class Bf16WeightsOps final : public ForwardingOps {
 public:
  // `rounding` works in bf16.
  Bf16WeightsOps(std::unique_ptr<Ops> rounding, int threads);

  std::string device_name() const override;
  bool has_masters() const override { return false; }
  void set_step_state(const StepState& state) override;
  void finish_gradient(ConstTensor partials) override;
  void adamw(Tensor value, Tensor master, Tensor first_moment, Tensor second_moment,
             ConstTensor gradient, const AdamW& settings) override;

 private:
  std::unique_ptr<Ops> owned_;
  int threads_;
  StepState state_;
};

// Between the two stands Bf16GradientsOps (kernels/bf16_gradients_ops.h).

// And the forward pass rounds where the reference's modelling file does, the backward pass where
// autograd then does: an RMSNorm's x/rms before its gain, and LayerNorm Scaling's factor behind it;
// both products and the tables of rotary positions; silu before its product; the terms of a sum
// with factors; log-probabilities, the loss of a pass, and the count of its targets, by which
// autograd divides. Sums within a verb are floats, as on a GPU. Attention rounds what goes in and
// comes out, as FlashAttention does, but keeps its probabilities. The packed products (queries,
// keys and values; gate and up) are one each, where the reference rounds the gradient of the input
// part by part. What the reference has not (LayerNorm, norms that are removed, GPT-2's parts)
// rounds once a verb.
class Bf16ForwardOps final : public ForwardingOps {
 public:
  Bf16ForwardOps(std::unique_ptr<Ops> rounding, int threads);

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
  void set_step_state(const StepState& state) override;
  void add_loss(ConstTensor losses) override;

 private:
  std::unique_ptr<Ops> owned_;
  int threads_;
  StepState state_;
  Memory room_;
};

}  // namespace normlab
