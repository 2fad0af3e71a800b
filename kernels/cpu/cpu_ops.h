// CpuOps: the operations on the CPU, in float for work and in double for checks. Verbs run at once,
// so streams and events have nothing to order. One file implements each group of verbs; each ends
// with the explicit instantiations of what it defines.
#pragma once

#include <string>
#include <vector>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/parallel.h"
#include "kernels/ops.h"

namespace normlab {

// The arguments of attention_backward.
struct AttentionBackward {
  Tensor d_q, d_k, d_v;
  ConstTensor d_z, z, lse, q, k, v;
  AttentionShape shape;
  Dropout dropout;
};

template <typename Scalar>
class CpuOps final : public Ops {
 public:
  explicit CpuOps(int threads);

  std::string device_name() const override;
  DType working_type() const override { return dtype_of<Scalar>(); }
  DType gradient_type() const override { return dtype_of<Scalar>(); }
  DType statistics_type() const override { return dtype_of<Scalar>(); }
  bool has_masters() const override { return false; }
  Memory allocate(int64_t bytes) override;
  Memory allocate_pinned(int64_t bytes) override { return allocate(bytes); }
  Stream create_stream() override { return {}; }
  Event create_event() override { return {}; }
  void record(Event, Stream) override {}
  void wait(Stream, Event) override {}
  bool event_reached(Event) override { return true; }
  void* native_stream(Stream) override { return nullptr; }
  void synchronize() override {}
  void upload(Tensor target, const void* source) override;
  void upload_async(Tensor target, const void* source, Stream) override { upload(target, source); }
  void download(void* target, ConstTensor source) override;

  void set_step_state(const StepState& state) override { state_ = state; }
  StepResult download_step_result() override;

  void zero(Tensor y) override;
  void copy(Tensor y, ConstTensor x) override;
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

  void add_stds(Tensor sums, ConstTensor statistics, ConstTensor lengths,
                const SpecialTokens& special) override;
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
  void zero_loss() override { losses_ = {}; }
  void add_loss(ConstTensor losses) override;
  Tensor step_losses() override {
    return Tensor(reinterpret_cast<std::byte*>(&losses_), DType::f64, {1, 2});
  }

  void sum_of_squares(Tensor partials, ConstTensor gradient) override;
  void finish_gradient(ConstTensor partials) override;
  void round_weights(Tensor value, ConstTensor master) override;
  void adamw(Tensor value, Tensor master, Tensor first_moment, Tensor second_moment,
             ConstTensor gradient, const AdamW& settings) override;

 private:
  // Room for so many numbers for each thread; what it held is lost. Before the threads start: there
  // nothing may throw.
  void reserve_scratch(int64_t elements);
  Scalar* scratch(int thread) { return scratch_[static_cast<size_t>(thread)].data(); }
  void attention_backward_block(const AttentionBackward& call, int64_t sequence, int64_t head,
                                int64_t first_query, int thread);
  void prepare_rotations(int64_t positions, int64_t head_size, double base);
  // Factors 0 or 1/(1 − p) of `count` elements from `first` of a sequence.
  void dropout_factors(Scalar* factors, const Dropout& dropout, int64_t sequence, int64_t first,
                       int64_t count) const;

  int threads_;
  StepState state_;
  struct {
    double loss = 0;
    double std_loss = 0;
  } losses_;
  std::vector<std::vector<Scalar>> scratch_;
  std::vector<Scalar> partials_;
  // cos and sin of position · base^(−2i/D): (positions, D/2) each.
  std::vector<Scalar> cosines_, sines_;
  int64_t rotation_positions_ = 0, rotation_head_size_ = 0;
  double rotation_base_ = 0;
};

}  // namespace normlab
