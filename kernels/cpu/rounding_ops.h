// RoundingOps: bf16 on the CPU. Working tensors are bf16; a verb reads them as float, computes as
// the exact Ops does, and rounds what it writes, once. Gradients of parameters, statistics, losses,
// moments and masters stay float. What a GPU's kernels in bf16 are held against; several times
// slower than float itself.
#pragma once

#include <memory>

#include "kernels/forwarding_ops.h"

namespace normlab {

class RoundingOps final : public ForwardingOps {
 public:
  // `exact` works in float on the CPU. threads = 0: one for each core.
  RoundingOps(std::unique_ptr<Ops> exact, int threads);

  std::string device_name() const override;
  DType working_type() const override { return DType::bf16; }
  bool has_masters() const override { return true; }

  void add(Tensor y, ConstTensor a, ConstTensor b) override;
  void scaled_sum(Tensor y, ConstTensor a, ConstTensor b, const SumFactors& factors) override;

  void embedding_forward(Tensor x, ConstTensor tokens, ConstTensor token_table,
                         ConstTensor position_table, int64_t first_position) override;
  void embedding_backward(Tensor d_token_table, Tensor d_position_table, ConstTensor d_x,
                          ConstTensor tokens) override;

  void residual_norm_forward(Tensor sum, Tensor normed, Tensor statistics, ConstTensor residual,
                             ConstTensor branch, const Norm& norm) override;
  void residual_norm_backward(Tensor d_sum, Tensor d_gain, Tensor d_bias, ConstTensor d_normed,
                              ConstTensor d_residual, ConstTensor sum, ConstTensor statistics,
                              const Norm& norm) override;

  void elementwise_norm_forward(Tensor y, ConstTensor x, const ElementwiseNorm& norm) override;
  void elementwise_norm_backward(Tensor d_x, const ElementwiseNormGradients& d_parameters,
                                 ConstTensor d_y, ConstTensor d_residual, ConstTensor x,
                                 const ElementwiseNorm& norm) override;

  void scale_forward(Tensor y, ConstTensor x, ConstTensor factor) override;
  void scale_backward(Tensor d_x, Tensor d_factor, ConstTensor d_y, ConstTensor x,
                      ConstTensor factor) override;
  void gpas_forward(Tensor y, ConstTensor x, ConstTensor gate) override;
  void gpas_backward(Tensor d_gate, ConstTensor d_y, ConstTensor x, ConstTensor gate) override;

  void add_std_loss(Tensor d_x, ConstTensor x, ConstTensor statistics, ConstTensor tokens,
                    ConstTensor lengths, const StdLoss& settings) override;
  void linear_forward(Tensor y, ConstTensor x, ConstTensor weight, ConstTensor bias) override;
  void linear_backward_input(Tensor d_x, ConstTensor d_y, ConstTensor weight) override;
  void linear_backward_weight(Tensor d_weight, Tensor d_bias, ConstTensor d_y,
                              ConstTensor x) override;

  void gelu_forward(Tensor y, ConstTensor x) override;
  void gelu_backward(Tensor d_x, ConstTensor d_y, ConstTensor x) override;
  void swiglu_forward(Tensor y, ConstTensor gate_up) override;
  void swiglu_backward(Tensor d_gate_up, ConstTensor d_y, ConstTensor gate_up) override;

  void rope(Tensor x, int64_t tokens, int64_t head_size, double base, int64_t first_position,
            RopeDirection direction) override;

  void attention_forward(Tensor z, Tensor lse, ConstTensor q, ConstTensor k, ConstTensor v,
                         const AttentionShape& shape, const Dropout& dropout) override;
  void attention_backward(Tensor d_q, Tensor d_k, Tensor d_v, ConstTensor d_z, ConstTensor z,
                          ConstTensor lse, ConstTensor q, ConstTensor k, ConstTensor v,
                          const AttentionShape& shape, const Dropout& dropout) override;

  void dropout(Tensor y, ConstTensor x, int64_t batch, const Dropout& dropout) override;

  void cross_entropy_forward(Tensor losses, ConstTensor logits, ConstTensor targets) override;
  void cross_entropy_backward(Tensor losses, Tensor logits, ConstTensor targets) override;

  void round_weights(Tensor value, ConstTensor master) override;
  void adamw(Tensor value, Tensor master, Tensor first_moment, Tensor second_moment,
             ConstTensor gradient, const AdamW& settings) override;

 private:
  // Calls a verb of the exact Ops with float copies in the place of working tensors.
  template <typename Verb, typename... Arguments>
  void run(Verb verb, const Arguments&... arguments);

  std::unique_ptr<Ops> exact_;
  int threads_;
  Memory room_;  // of the float copies of one verb
};

}  // namespace normlab
