// ObservedOps: another Ops, whose verbs are looked at one by one. What derives from it sees the
// name of each, what it reads, what it writes, and runs it.
#pragma once

#include <functional>
#include <initializer_list>

#include "kernels/forwarding_ops.h"

namespace normlab {

// Tensors of a verb; some may be empty. What is read and written stands with what is written.
struct ObservedVerb {
  const char* name;
  std::initializer_list<Tensor> outputs;
  std::initializer_list<ConstTensor> inputs;
  double flops = 0;  // of products; 0 of all else
};

class ObservedOps : public ForwardingOps {
 public:
  using ForwardingOps::ForwardingOps;

  void zero(Tensor y) override {
    observe({"zero", {y}, {}}, [&] { ops().zero(y); });
  }
  void copy(Tensor y, ConstTensor x) override {
    observe({"copy", {y}, {x}}, [&] { ops().copy(y, x); });
  }
  void add(Tensor y, ConstTensor a, ConstTensor b) override {
    observe({"add", {y}, {a, b}}, [&] { ops().add(y, a, b); });
  }
  void scaled_sum(Tensor y, ConstTensor a, ConstTensor b, const SumFactors& factors) override {
    observe({"scaled_sum", {y}, {a, b}}, [&] { ops().scaled_sum(y, a, b, factors); });
  }
  void embedding_forward(Tensor x, ConstTensor tokens, ConstTensor token_table,
                         ConstTensor position_table, int64_t first_position) override {
    observe({"embedding_forward", {x}, {tokens, token_table, position_table}}, [&] {
      ops().embedding_forward(x, tokens, token_table, position_table, first_position);
    });
  }
  void embedding_backward(Tensor d_token_table, Tensor d_position_table, ConstTensor d_x,
                          ConstTensor tokens) override {
    observe({"embedding_backward", {d_token_table, d_position_table}, {d_x, tokens}},
            [&] { ops().embedding_backward(d_token_table, d_position_table, d_x, tokens); });
  }
  void residual_norm_forward(Tensor sum, Tensor normed, Tensor statistics, ConstTensor residual,
                             ConstTensor branch, const Norm& norm) override {
    observe({"residual_norm_forward",
             {sum, normed, statistics},
             {residual, branch, norm.gain, norm.bias}},
            [&] { ops().residual_norm_forward(sum, normed, statistics, residual, branch, norm); });
  }
  void residual_norm_backward(Tensor d_sum, Tensor d_gain, Tensor d_bias, ConstTensor d_normed,
                              ConstTensor d_residual, ConstTensor sum, ConstTensor statistics,
                              const Norm& norm) override {
    observe({"residual_norm_backward",
             {d_sum, d_gain, d_bias},
             {d_normed, d_residual, sum, statistics, norm.gain, norm.bias}},
            [&] {
              ops().residual_norm_backward(d_sum, d_gain, d_bias, d_normed, d_residual, sum,
                                           statistics, norm);
            });
  }
  void elementwise_norm_forward(Tensor y, ConstTensor x, const ElementwiseNorm& norm) override {
    observe({"elementwise_norm_forward", {y}, {x, norm.gain, norm.bias, norm.slope, norm.shift}},
            [&] { ops().elementwise_norm_forward(y, x, norm); });
  }
  void elementwise_norm_backward(Tensor d_x, const ElementwiseNormGradients& d_parameters,
                                 ConstTensor d_y, ConstTensor d_residual, ConstTensor x,
                                 const ElementwiseNorm& norm) override {
    observe({"elementwise_norm_backward",
             {d_x, d_parameters.gain, d_parameters.bias, d_parameters.slope, d_parameters.shift},
             {d_y, d_residual, x, norm.gain, norm.bias, norm.slope, norm.shift}},
            [&] { ops().elementwise_norm_backward(d_x, d_parameters, d_y, d_residual, x, norm); });
  }
  void scale_forward(Tensor y, ConstTensor x, ConstTensor factor) override {
    observe({"scale_forward", {y}, {x, factor}}, [&] { ops().scale_forward(y, x, factor); });
  }
  void scale_backward(Tensor d_x, Tensor d_factor, ConstTensor d_y, ConstTensor x,
                      ConstTensor factor) override {
    observe({"scale_backward", {d_x, d_factor}, {d_y, x, factor}},
            [&] { ops().scale_backward(d_x, d_factor, d_y, x, factor); });
  }
  void gpas_forward(Tensor y, ConstTensor x, ConstTensor gate) override {
    observe({"gpas_forward", {y}, {x, gate}}, [&] { ops().gpas_forward(y, x, gate); });
  }
  void gpas_backward(Tensor d_gate, ConstTensor d_y, ConstTensor x, ConstTensor gate) override {
    observe({"gpas_backward", {d_gate}, {d_y, x, gate}},
            [&] { ops().gpas_backward(d_gate, d_y, x, gate); });
  }
  void add_stds(Tensor sums, ConstTensor statistics, ConstTensor lengths,
                const SpecialTokens& special) override {
    observe({"add_stds", {sums}, {statistics, lengths}},
            [&] { ops().add_stds(sums, statistics, lengths, special); });
  }
  void add_std_loss(Tensor d_x, ConstTensor x, ConstTensor statistics, ConstTensor tokens,
                    ConstTensor lengths, const StdLoss& settings) override {
    observe({"add_std_loss", {d_x, ops().step_losses()}, {x, statistics, tokens, lengths}},
            [&] { ops().add_std_loss(d_x, x, statistics, tokens, lengths, settings); });
  }
  void linear_forward(Tensor y, ConstTensor x, ConstTensor weight, ConstTensor bias) override {
    observe({"linear_forward", {y}, {x, weight, bias}, flops_of(y, x.columns())},
            [&] { ops().linear_forward(y, x, weight, bias); });
  }
  void linear_backward_input(Tensor d_x, ConstTensor d_y, ConstTensor weight) override {
    observe({"linear_backward_input", {d_x}, {d_y, weight}, flops_of(d_x, d_y.columns())},
            [&] { ops().linear_backward_input(d_x, d_y, weight); });
  }
  void linear_backward_weight(Tensor d_weight, Tensor d_bias, ConstTensor d_y,
                              ConstTensor x) override {
    observe({"linear_backward_weight", {d_weight, d_bias}, {d_y, x}, flops_of(d_weight, x.rows())},
            [&] { ops().linear_backward_weight(d_weight, d_bias, d_y, x); });
  }
  void gelu_forward(Tensor y, ConstTensor x) override {
    observe({"gelu_forward", {y}, {x}}, [&] { ops().gelu_forward(y, x); });
  }
  void gelu_backward(Tensor d_x, ConstTensor d_y, ConstTensor x) override {
    observe({"gelu_backward", {d_x}, {d_y, x}}, [&] { ops().gelu_backward(d_x, d_y, x); });
  }
  void swiglu_forward(Tensor y, ConstTensor gate_up) override {
    observe({"swiglu_forward", {y}, {gate_up}}, [&] { ops().swiglu_forward(y, gate_up); });
  }
  void swiglu_backward(Tensor d_gate_up, ConstTensor d_y, ConstTensor gate_up) override {
    observe({"swiglu_backward", {d_gate_up}, {d_y, gate_up}},
            [&] { ops().swiglu_backward(d_gate_up, d_y, gate_up); });
  }
  void rope(Tensor x, int64_t tokens, int64_t head_size, double base, int64_t first_position,
            RopeDirection direction) override {
    observe({"rope", {x}, {}},
            [&] { ops().rope(x, tokens, head_size, base, first_position, direction); });
  }
  void attention_forward(Tensor z, Tensor lse, ConstTensor q, ConstTensor k, ConstTensor v,
                         const AttentionShape& shape, const Dropout& dropout) override {
    observe({"attention_forward", {z, lse}, {q, k, v}},
            [&] { ops().attention_forward(z, lse, q, k, v, shape, dropout); });
  }
  void attention_backward(Tensor d_q, Tensor d_k, Tensor d_v, ConstTensor d_z, ConstTensor z,
                          ConstTensor lse, ConstTensor q, ConstTensor k, ConstTensor v,
                          const AttentionShape& shape, const Dropout& dropout) override {
    observe({"attention_backward", {d_q, d_k, d_v}, {d_z, z, lse, q, k, v}},
            [&] { ops().attention_backward(d_q, d_k, d_v, d_z, z, lse, q, k, v, shape, dropout); });
  }
  void dropout(Tensor y, ConstTensor x, int64_t batch, const Dropout& dropout) override {
    observe({"dropout", {y}, {x}}, [&] { ops().dropout(y, x, batch, dropout); });
  }
  void cross_entropy_forward(Tensor losses, ConstTensor logits, ConstTensor targets) override {
    observe({"cross_entropy_forward", {losses}, {logits, targets}},
            [&] { ops().cross_entropy_forward(losses, logits, targets); });
  }
  void cross_entropy_backward(Tensor losses, Tensor logits, ConstTensor targets) override {
    observe({"cross_entropy_backward", {losses, logits}, {targets}},
            [&] { ops().cross_entropy_backward(losses, logits, targets); });
  }
  void zero_loss() override {
    observe({"zero_loss", {ops().step_losses()}, {}}, [&] { ops().zero_loss(); });
  }
  void add_loss(ConstTensor losses) override {
    observe({"add_loss", {ops().step_losses()}, {losses}}, [&] { ops().add_loss(losses); });
  }
  void sum_of_squares(Tensor partials, ConstTensor gradient) override {
    observe({"sum_of_squares", {partials}, {gradient}},
            [&] { ops().sum_of_squares(partials, gradient); });
  }
  void finish_gradient(ConstTensor partials) override {
    observe({"finish_gradient", {}, {partials}}, [&] { ops().finish_gradient(partials); });
  }
  void round_weights(Tensor value, ConstTensor master) override {
    observe({"round_weights", {value}, {master}}, [&] { ops().round_weights(value, master); });
  }
  void adamw(Tensor value, Tensor master, Tensor first_moment, Tensor second_moment,
             ConstTensor gradient, const AdamW& settings) override {
    observe({"adamw", {value, master, first_moment, second_moment}, {gradient}},
            [&] { ops().adamw(value, master, first_moment, second_moment, gradient, settings); });
  }

 protected:
  // Runs the verb, once.
  virtual void observe(const ObservedVerb& verb, const std::function<void()>& run) = 0;

 private:
  static double flops_of(ConstTensor product, int64_t inner) {
    return 2.0 * static_cast<double>(product.elements()) * static_cast<double>(inner);
  }
};

}  // namespace normlab
