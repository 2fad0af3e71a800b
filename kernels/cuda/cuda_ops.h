// CudaOps: the operations on a GPU, with activations and weights in float or in bf16. Verbs enqueue
// on the compute stream. One .cu file implements each group of verbs: its kernels, then the members
// that launch them, then the explicit instantiations. Nothing here is atomic: the same inputs give
// the same bits.
#pragma once

#include <cuda_runtime.h>

#include <string>
#include <vector>

#include "kernels/bfloat16.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/staging.h"
#include "kernels/cuda_ops.h"
#include "kernels/ops.h"

namespace normlab {

// Throws Error with CUDA's words where a call of its runtime failed. `what` is what was tried.
void check_cuda(cudaError_t status, const char* what);

// What the device keeps of a step.
struct DeviceState {
  StepState step;
  double loss = 0;  // next to each other: Ops::step_losses()
  double std_loss = 0;
};

// Whether rounded weights have masters in float; without, kernels/pure_adam.h updates them.
enum class Masters { kept, none };

template <typename Working>
class CudaOps final : public Ops {
 public:
  explicit CudaOps(Masters masters = Masters::kept);
  ~CudaOps() override;
  CudaOps(const CudaOps&) = delete;
  CudaOps& operator=(const CudaOps&) = delete;

  std::string device_name() const override;
  DType working_type() const override { return dtype_of<Working>(); }
  DType gradient_type() const override { return DType::f32; }
  DType statistics_type() const override { return DType::f32; }
  bool has_masters() const override {
    return working_type() != DType::f32 && masters_ == Masters::kept;
  }
  Memory allocate(int64_t bytes) override;
  Memory allocate_pinned(int64_t bytes) override;
  Stream create_stream() override;
  Event create_event() override;
  void record(Event event, Stream stream) override;
  void wait(Stream stream, Event event) override;
  bool event_reached(Event event) override;
  void* native_stream(Stream stream) override;
  void synchronize() override;
  void upload(Tensor target, const void* source) override;
  void upload_async(Tensor target, const void* source, Stream stream) override;
  void download(void* target, ConstTensor source) override;

  void set_step_state(const StepState& state) override;
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
  void zero_loss() override;
  void add_loss(ConstTensor losses) override;
  Tensor step_losses() override;

  void sum_of_squares(Tensor partials, ConstTensor gradient) override;
  void finish_gradient(ConstTensor partials) override;
  void round_weights(Tensor value, ConstTensor master) override;
  void adamw(Tensor value, Tensor master, Tensor first_moment, Tensor second_moment,
             ConstTensor gradient, const AdamW& settings) override;

  // sum ← rounded(sum + rounded(more)), to bf16 numbers, each a float (R,C).
  void add_rounded(Tensor sum, ConstTensor more);

 private:
  friend class CudaBf16ForwardOps;  // launches kernels beside ours

  void pure_adam_update(Tensor value, Tensor first_moment, Tensor second_moment,
                        ConstTensor gradient, const AdamW& settings);
  // Numbers that one kernel of a verb leaves to the next; what they held is lost with the next
  // call. May wait for the device where it has to grow.
  template <typename T>
  Scratch<T> scratch(int64_t elements) {
    return {reinterpret_cast<T*>(scratch_bytes(elements * static_cast<int64_t>(sizeof(T)))),
            elements};
  }
  std::byte* scratch_bytes(int64_t bytes);
  // As many blocks as keep the device busy with grid-stride loops: a function of the device alone.
  int64_t resident_blocks() const { return 8 * multiprocessors_; }
  // target (n, f32) += Σ over blocks of partials[block·stride + first + column], in order.
  void add_partials(Tensor target, const Scratch<float>& partials, int64_t blocks, int64_t stride,
                    int64_t first);
  // target (1, f32) += the sum over `columns` columns of the same partials.
  void add_total(Tensor target, const Scratch<float>& partials, int64_t blocks, int64_t stride,
                 int64_t first, int64_t columns);
  // Of the columns of a·b (N,C), one partial for each of product_blocks(N) blocks.
  int64_t product_blocks(int64_t rows) const;
  void sum_products(const Scratch<float>& partials, ConstTensor a, ConstTensor b);
  // Sums of the columns of d_y (N,O), added to d_bias (O).
  void add_column_sums(Tensor d_bias, ConstTensor d_y);
  void prepare_rotations(int64_t positions, int64_t head_size, double base);

  std::string name_;
  Masters masters_;
  int64_t multiprocessors_ = 1;
  cudaStream_t stream_ = nullptr;
  std::vector<cudaStream_t> streams_;  // by Stream::id; 0 is stream_
  std::vector<cudaEvent_t> events_;
  Staging staging_;                    // of stream_
  DeviceState* state_ = nullptr;       // on the device
  DeviceState* downloaded_ = nullptr;  // pinned
  std::byte* scratch_ = nullptr;
  int64_t scratch_capacity_ = 0;
  Gemm gemm_;
  // cos and sin of position · base^(−2i/D): (positions, D/2) each, float, on the device.
  Memory rotations_;
  int64_t rotation_positions_ = 0, rotation_head_size_ = 0;
  double rotation_base_ = 0;
};

template <>
void CudaOps<BFloat16>::add_rounded(Tensor sum, ConstTensor more);
template <>
void CudaOps<BFloat16>::pure_adam_update(Tensor value, Tensor first_moment, Tensor second_moment,
                                         ConstTensor gradient, const AdamW& settings);

}  // namespace normlab
