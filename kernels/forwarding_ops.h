// ForwardingOps: an Ops that hands every verb to another. What derives from it overrides the verbs
// that it does otherwise.
#pragma once

#include <string>

#include "kernels/ops.h"

namespace normlab {

class ForwardingOps : public Ops {
 public:
  // `ops` must outlive this, and all memory that this gives.
  explicit ForwardingOps(Ops& ops) : ops_(ops) {}

  Memory allocate(int64_t bytes) override { return ops_.allocate(bytes); }
  Memory allocate_pinned(int64_t bytes) override { return ops_.allocate_pinned(bytes); }
  std::string device_name() const override { return ops_.device_name(); }
  DType working_type() const override { return ops_.working_type(); }
  DType gradient_type() const override { return ops_.gradient_type(); }
  DType statistics_type() const override { return ops_.statistics_type(); }
  bool has_masters() const override { return ops_.has_masters(); }
  Stream create_stream() override { return ops_.create_stream(); }
  Event create_event() override { return ops_.create_event(); }
  void record(Event event, Stream stream) override { ops_.record(event, stream); }
  void wait(Stream stream, Event event) override { ops_.wait(stream, event); }
  bool event_reached(Event event) override { return ops_.event_reached(event); }
  void* native_stream(Stream stream) override { return ops_.native_stream(stream); }
  void synchronize() override { ops_.synchronize(); }
  void upload(Tensor target, const void* source) override { ops_.upload(target, source); }
  void upload_async(Tensor target, const void* source, Stream stream) override {
    ops_.upload_async(target, source, stream);
  }
  void download(void* target, ConstTensor source) override { ops_.download(target, source); }
  void set_step_state(const StepState& state) override { ops_.set_step_state(state); }
  StepResult download_step_result() override { return ops_.download_step_result(); }
  void zero(Tensor y) override { ops_.zero(y); }
  void copy(Tensor y, ConstTensor x) override { ops_.copy(y, x); }
  void add(Tensor y, ConstTensor a, ConstTensor b) override { ops_.add(y, a, b); }
  void scaled_sum(Tensor y, ConstTensor a, ConstTensor b, const SumFactors& factors) override {
    ops_.scaled_sum(y, a, b, factors);
  }
  void embedding_forward(Tensor x, ConstTensor tokens, ConstTensor token_table,
                         ConstTensor position_table, int64_t first_position) override {
    ops_.embedding_forward(x, tokens, token_table, position_table, first_position);
  }
  void embedding_backward(Tensor d_token_table, Tensor d_position_table, ConstTensor d_x,
                          ConstTensor tokens) override {
    ops_.embedding_backward(d_token_table, d_position_table, d_x, tokens);
  }
  void residual_norm_forward(Tensor sum, Tensor normed, Tensor statistics, ConstTensor residual,
                             ConstTensor branch, const Norm& norm) override {
    ops_.residual_norm_forward(sum, normed, statistics, residual, branch, norm);
  }
  void residual_norm_backward(Tensor d_sum, Tensor d_gain, Tensor d_bias, ConstTensor d_normed,
                              ConstTensor d_residual, ConstTensor sum, ConstTensor statistics,
                              const Norm& norm) override {
    ops_.residual_norm_backward(d_sum, d_gain, d_bias, d_normed, d_residual, sum, statistics, norm);
  }
  void elementwise_norm_forward(Tensor y, ConstTensor x, const ElementwiseNorm& norm) override {
    ops_.elementwise_norm_forward(y, x, norm);
  }
  void elementwise_norm_backward(Tensor d_x, const ElementwiseNormGradients& d_parameters,
                                 ConstTensor d_y, ConstTensor d_residual, ConstTensor x,
                                 const ElementwiseNorm& norm) override {
    ops_.elementwise_norm_backward(d_x, d_parameters, d_y, d_residual, x, norm);
  }
  void scale_forward(Tensor y, ConstTensor x, ConstTensor factor) override {
    ops_.scale_forward(y, x, factor);
  }
  void scale_backward(Tensor d_x, Tensor d_factor, ConstTensor d_y, ConstTensor x,
                      ConstTensor factor) override {
    ops_.scale_backward(d_x, d_factor, d_y, x, factor);
  }
  void gpas_forward(Tensor y, ConstTensor x, ConstTensor gate) override {
    ops_.gpas_forward(y, x, gate);
  }
  void gpas_backward(Tensor d_gate, ConstTensor d_y, ConstTensor x, ConstTensor gate) override {
    ops_.gpas_backward(d_gate, d_y, x, gate);
  }
  void add_stds(Tensor sums, ConstTensor statistics, ConstTensor lengths,
                const SpecialTokens& special) override {
    ops_.add_stds(sums, statistics, lengths, special);
  }
  void add_std_loss(Tensor d_x, ConstTensor x, ConstTensor statistics, ConstTensor tokens,
                    ConstTensor lengths, const StdLoss& settings) override {
    ops_.add_std_loss(d_x, x, statistics, tokens, lengths, settings);
  }
  void linear_forward(Tensor y, ConstTensor x, ConstTensor weight, ConstTensor bias) override {
    ops_.linear_forward(y, x, weight, bias);
  }
  void linear_backward_input(Tensor d_x, ConstTensor d_y, ConstTensor weight) override {
    ops_.linear_backward_input(d_x, d_y, weight);
  }
  void linear_backward_weight(Tensor d_weight, Tensor d_bias, ConstTensor d_y,
                              ConstTensor x) override {
    ops_.linear_backward_weight(d_weight, d_bias, d_y, x);
  }
  void gelu_forward(Tensor y, ConstTensor x) override { ops_.gelu_forward(y, x); }
  void gelu_backward(Tensor d_x, ConstTensor d_y, ConstTensor x) override {
    ops_.gelu_backward(d_x, d_y, x);
  }
  void swiglu_forward(Tensor y, ConstTensor gate_up) override { ops_.swiglu_forward(y, gate_up); }
  void swiglu_backward(Tensor d_gate_up, ConstTensor d_y, ConstTensor gate_up) override {
    ops_.swiglu_backward(d_gate_up, d_y, gate_up);
  }
  void rope(Tensor x, int64_t tokens, int64_t head_size, double base, int64_t first_position,
            RopeDirection direction) override {
    ops_.rope(x, tokens, head_size, base, first_position, direction);
  }
  void attention_forward(Tensor z, Tensor lse, ConstTensor q, ConstTensor k, ConstTensor v,
                         const AttentionShape& shape, const Dropout& dropout) override {
    ops_.attention_forward(z, lse, q, k, v, shape, dropout);
  }
  void attention_backward(Tensor d_q, Tensor d_k, Tensor d_v, ConstTensor d_z, ConstTensor z,
                          ConstTensor lse, ConstTensor q, ConstTensor k, ConstTensor v,
                          const AttentionShape& shape, const Dropout& dropout) override {
    ops_.attention_backward(d_q, d_k, d_v, d_z, z, lse, q, k, v, shape, dropout);
  }
  void dropout(Tensor y, ConstTensor x, int64_t batch, const Dropout& dropout) override {
    ops_.dropout(y, x, batch, dropout);
  }
  void cross_entropy_forward(Tensor losses, ConstTensor logits, ConstTensor targets) override {
    ops_.cross_entropy_forward(losses, logits, targets);
  }
  void cross_entropy_backward(Tensor losses, Tensor logits, ConstTensor targets) override {
    ops_.cross_entropy_backward(losses, logits, targets);
  }
  void zero_loss() override { ops_.zero_loss(); }
  void add_loss(ConstTensor losses) override { ops_.add_loss(losses); }
  Tensor step_losses() override { return ops_.step_losses(); }
  void sum_of_squares(Tensor partials, ConstTensor gradient) override {
    ops_.sum_of_squares(partials, gradient);
  }
  void finish_gradient(ConstTensor partials) override { ops_.finish_gradient(partials); }
  void round_weights(Tensor value, ConstTensor master) override {
    ops_.round_weights(value, master);
  }
  void adamw(Tensor value, Tensor master, Tensor first_moment, Tensor second_moment,
             ConstTensor gradient, const AdamW& settings) override {
    ops_.adamw(value, master, first_moment, second_moment, gradient, settings);
  }

 protected:
  Ops& ops() { return ops_; }

 private:
  Ops& ops_;
};

}  // namespace normlab
