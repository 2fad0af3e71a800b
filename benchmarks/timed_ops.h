// TimedOps: another Ops, and the seconds of each verb. Of a device whose verbs are done when they
// return, the CPU.
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "kernels/forwarding_ops.h"

namespace normlab {

class TimedOps final : public ForwardingOps {
 public:
  struct Total {
    int64_t calls = 0;
    double seconds = 0;
    double flops = 0;  // of products; 0 of all else
  };

  using ForwardingOps::ForwardingOps;
  const std::map<std::string, Total>& totals() const { return totals_; }
  void forget() { totals_.clear(); }

  void zero(Tensor y) override {
    timed("zero", [&] { ops().zero(y); });
  }
  void copy(Tensor y, ConstTensor x) override {
    timed("copy", [&] { ops().copy(y, x); });
  }
  void add(Tensor y, ConstTensor a, ConstTensor b) override {
    timed("add", [&] { ops().add(y, a, b); });
  }
  void scaled_sum(Tensor y, ConstTensor a, ConstTensor b, const SumFactors& factors) override {
    timed("scaled_sum", [&] { ops().scaled_sum(y, a, b, factors); });
  }
  void embedding_forward(Tensor x, ConstTensor tokens, ConstTensor token_table,
                         ConstTensor position_table, int64_t first_position) override {
    timed("embedding_forward",
          [&] { ops().embedding_forward(x, tokens, token_table, position_table, first_position); });
  }
  void embedding_backward(Tensor d_token_table, Tensor d_position_table, ConstTensor d_x,
                          ConstTensor tokens) override {
    timed("embedding_backward",
          [&] { ops().embedding_backward(d_token_table, d_position_table, d_x, tokens); });
  }
  void residual_norm_forward(Tensor sum, Tensor normed, Tensor statistics, ConstTensor residual,
                             ConstTensor branch, const Norm& norm) override {
    timed("residual_norm_forward",
          [&] { ops().residual_norm_forward(sum, normed, statistics, residual, branch, norm); });
  }
  void residual_norm_backward(Tensor d_sum, Tensor d_gain, Tensor d_bias, ConstTensor d_normed,
                              ConstTensor d_residual, ConstTensor sum, ConstTensor statistics,
                              const Norm& norm) override {
    timed("residual_norm_backward", [&] {
      ops().residual_norm_backward(d_sum, d_gain, d_bias, d_normed, d_residual, sum, statistics,
                                   norm);
    });
  }
  void elementwise_norm_forward(Tensor y, ConstTensor x, const ElementwiseNorm& norm) override {
    timed("elementwise_norm_forward", [&] { ops().elementwise_norm_forward(y, x, norm); });
  }
  void elementwise_norm_backward(Tensor d_x, const ElementwiseNormGradients& d_parameters,
                                 ConstTensor d_y, ConstTensor d_residual, ConstTensor x,
                                 const ElementwiseNorm& norm) override {
    timed("elementwise_norm_backward",
          [&] { ops().elementwise_norm_backward(d_x, d_parameters, d_y, d_residual, x, norm); });
  }
  void scale_forward(Tensor y, ConstTensor x, ConstTensor factor) override {
    timed("scale_forward", [&] { ops().scale_forward(y, x, factor); });
  }
  void scale_backward(Tensor d_x, Tensor d_factor, ConstTensor d_y, ConstTensor x,
                      ConstTensor factor) override {
    timed("scale_backward", [&] { ops().scale_backward(d_x, d_factor, d_y, x, factor); });
  }
  void gpas_forward(Tensor y, ConstTensor x, ConstTensor gate) override {
    timed("gpas_forward", [&] { ops().gpas_forward(y, x, gate); });
  }
  void gpas_backward(Tensor d_gate, ConstTensor d_y, ConstTensor x, ConstTensor gate) override {
    timed("gpas_backward", [&] { ops().gpas_backward(d_gate, d_y, x, gate); });
  }
  void add_stds(Tensor sums, ConstTensor statistics, ConstTensor lengths,
                const SpecialTokens& special) override {
    timed("add_stds", [&] { ops().add_stds(sums, statistics, lengths, special); });
  }
  void add_std_loss(Tensor d_x, ConstTensor x, ConstTensor statistics, ConstTensor tokens,
                    ConstTensor lengths, const StdLoss& settings) override {
    timed("add_std_loss",
          [&] { ops().add_std_loss(d_x, x, statistics, tokens, lengths, settings); });
  }
  void linear_forward(Tensor y, ConstTensor x, ConstTensor weight, ConstTensor bias) override {
    timed(
        "linear_forward", [&] { ops().linear_forward(y, x, weight, bias); },
        flops_of(y, x.columns()));
  }
  void linear_backward_input(Tensor d_x, ConstTensor d_y, ConstTensor weight) override {
    timed(
        "linear_backward_input", [&] { ops().linear_backward_input(d_x, d_y, weight); },
        flops_of(d_x, d_y.columns()));
  }
  void linear_backward_weight(Tensor d_weight, Tensor d_bias, ConstTensor d_y,
                              ConstTensor x) override {
    timed(
        "linear_backward_weight", [&] { ops().linear_backward_weight(d_weight, d_bias, d_y, x); },
        flops_of(d_weight, x.rows()));
  }
  void gelu_forward(Tensor y, ConstTensor x) override {
    timed("gelu_forward", [&] { ops().gelu_forward(y, x); });
  }
  void gelu_backward(Tensor d_x, ConstTensor d_y, ConstTensor x) override {
    timed("gelu_backward", [&] { ops().gelu_backward(d_x, d_y, x); });
  }
  void swiglu_forward(Tensor y, ConstTensor gate_up) override {
    timed("swiglu_forward", [&] { ops().swiglu_forward(y, gate_up); });
  }
  void swiglu_backward(Tensor d_gate_up, ConstTensor d_y, ConstTensor gate_up) override {
    timed("swiglu_backward", [&] { ops().swiglu_backward(d_gate_up, d_y, gate_up); });
  }
  void rope(Tensor x, int64_t tokens, int64_t head_size, double base, int64_t first_position,
            RopeDirection direction) override {
    timed("rope", [&] { ops().rope(x, tokens, head_size, base, first_position, direction); });
  }
  void attention_forward(Tensor z, Tensor lse, ConstTensor q, ConstTensor k, ConstTensor v,
                         const AttentionShape& shape, const Dropout& dropout) override {
    timed("attention_forward", [&] { ops().attention_forward(z, lse, q, k, v, shape, dropout); });
  }
  void attention_backward(Tensor d_q, Tensor d_k, Tensor d_v, ConstTensor d_z, ConstTensor z,
                          ConstTensor lse, ConstTensor q, ConstTensor k, ConstTensor v,
                          const AttentionShape& shape, const Dropout& dropout) override {
    timed("attention_backward",
          [&] { ops().attention_backward(d_q, d_k, d_v, d_z, z, lse, q, k, v, shape, dropout); });
  }
  void dropout(Tensor y, ConstTensor x, int64_t batch, const Dropout& dropout) override {
    timed("dropout", [&] { ops().dropout(y, x, batch, dropout); });
  }
  void cross_entropy_forward(Tensor losses, ConstTensor logits, ConstTensor targets) override {
    timed("cross_entropy_forward", [&] { ops().cross_entropy_forward(losses, logits, targets); });
  }
  void cross_entropy_backward(Tensor losses, Tensor logits, ConstTensor targets) override {
    timed("cross_entropy_backward", [&] { ops().cross_entropy_backward(losses, logits, targets); });
  }
  void zero_loss() override {
    timed("zero_loss", [&] { ops().zero_loss(); });
  }
  void add_loss(ConstTensor losses) override {
    timed("add_loss", [&] { ops().add_loss(losses); });
  }
  void sum_of_squares(Tensor partials, ConstTensor gradient) override {
    timed("sum_of_squares", [&] { ops().sum_of_squares(partials, gradient); });
  }
  void finish_gradient(ConstTensor partials) override {
    timed("finish_gradient", [&] { ops().finish_gradient(partials); });
  }
  void round_weights(Tensor value, ConstTensor master) override {
    timed("round_weights", [&] { ops().round_weights(value, master); });
  }
  void adamw(Tensor value, Tensor master, Tensor first_moment, Tensor second_moment,
             ConstTensor gradient, const AdamW& settings) override {
    timed("adamw",
          [&] { ops().adamw(value, master, first_moment, second_moment, gradient, settings); });
  }

 private:
  static double flops_of(ConstTensor product, int64_t inner) {
    return 2.0 * static_cast<double>(product.elements()) * static_cast<double>(inner);
  }

  template <typename Verb>
  void timed(const char* name, const Verb& verb, double flops = 0) {
    const auto begin = std::chrono::steady_clock::now();
    verb();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
    Total& total = totals_[name];
    ++total.calls;
    total.seconds += elapsed.count();
    total.flops += flops;
  }

  std::map<std::string, Total> totals_;
};

}  // namespace normlab
