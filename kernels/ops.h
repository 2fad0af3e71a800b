// Ops: every operation of a device. THE reference for shapes, units, aliasing and errors.
//
// Letters: B sequences, T tokens a sequence, N = B·T rows, C width, H heads, H_kv key/value heads,
// D head size, F feed-forward width, V vocabulary. All tensors are row-major views; "packed" means
// the projections of a token side by side: (N, (H + 2·H_kv)·D), queries, keys, values.
//
// Activations, their gradients, and weights have the type `working_type()`; gradients of parameters
// and moments `gradient_type()`; token ids are i32; row statistics and losses `statistics_type()`.
//
// Every verb enqueues on the compute stream; only `download` and `synchronize` wait. Gradients of
// parameters accumulate (+=), gradients of activations overwrite (=). d_x is the gradient of x.
// Unless a verb says otherwise its outputs alias none of its inputs. Same inputs, same bits, with
// any number of threads.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/tensor.h"

namespace normlab {

class Ops;

// Memory of a device, or pinned memory of the host; freed with its owner.
class Memory {
 public:
  using Free = void (*)(Ops*, std::byte*);
  Memory() = default;
  Memory(Ops* ops, std::byte* data, int64_t bytes, Free free)
      : data_(data, Deleter{ops, free}), bytes_(bytes) {}
  std::byte* data() const { return data_.get(); }
  int64_t bytes() const { return bytes_; }

 private:
  struct Deleter {
    Ops* ops;
    Free free;
    void operator()(std::byte* data) const { free(ops, data); }
  };
  std::unique_ptr<std::byte, Deleter> data_;
  int64_t bytes_ = 0;
};

// Opaque names of a queue of work and of a point in it. Stream 0 is the compute stream.
struct Stream {
  int id = 0;
};
struct Event {
  int id = 0;
};

// All that changes from step to step, in one struct on the device: no verb takes such a number as
// an argument, so that a captured graph of verbs stays valid.
struct StepState {
  // Written by the host, set_step_state().
  uint64_t seed = 0;           // of every random number
  uint64_t step = 0;           // of every random number; constant within a step
  int64_t first_sequence = 0;  // place of the micro-batch's first sequence in the global batch
  double loss_scale = 1;       // gradient of the step's loss by the loss of one token
  double std_loss_scale = 0;   // the same of the auxiliary loss by the loss of one token's std
  int64_t scored_tokens = 0;  // targets of the pass; only bf16 alone asks (kernels/cpu/pure_bf16.h)
  double learning_rate = 0;
  double first_moment_correction = 1;   // 1 − β₁^t, t = this update, counted from 1
  double second_moment_correction = 1;  // 1 − β₂^t
  double gradient_clip = 0;             // bound of the global norm; 0 = none
  // Written by the device, finish_gradient(); read back by download_step_result().
  double gradient_norm = 0;  // before clipping
  double clip_scale = 1;     // adamw multiplies every gradient by it
  bool finite = true;        // loss and gradients are; if not, adamw changes nothing
};

struct StepResult {
  double loss = 0;      // what add_loss has summed since zero_loss; nats
  double std_loss = 0;  // what add_std_loss has
  double gradient_norm = 0;
  double clip_scale = 1;  // what adamw multiplies every gradient by
  bool finite = true;
};

// Of the first two, mean and 1/std of a row stay in a statistics tensor (N, 2) between forward and
// backward. The others are no norms, but stand where one would: each element by itself.
enum class NormKind { layernorm, rmsnorm, dyt, derf };

// Tokens that have another σ than the others: the first of each sequence, and those with one id.
struct SpecialTokens {
  ConstTensor tokens;  // (B,T) i32, of which row b·T + t is; empty: none is special
  bool first = false;
  int32_t id = -1;  // −1: none
};

// y = scale · (x − mean) · i · gain + bias·scale, i = gate/√(var + epsilon) + (1 − gate)/σ.
// rmsnorm: no mean, var = mean of squares. A live norm has gate 1, a frozen one gate 0, a tapering
// one lies between. `scale` is LayerNorm Scaling's 1/√l ("The Curse of Depth", eq. 4), else 1.
struct Norm {
  NormKind kind = NormKind::layernorm;  // or rmsnorm
  ConstTensor gain;                     // (C)
  ConstTensor bias;                     // (C), or empty
  double epsilon = 1e-5;
  double scale = 1;
  // (3) {gate, 1/σ, 1/σ of special tokens} in statistics_type(), or empty: live. Only two where
  // none is special.
  ConstTensor site;
  SpecialTokens special;
};

// y = scale · (gain · f(slope · x + shift) + bias), f = tanh for dyt (Dynamic Tanh, Zhu et al.
// 2025) and the error function for derf (Chen et al. 2025).
struct ElementwiseNorm {
  NormKind kind = NormKind::dyt;  // or derf
  ConstTensor gain;               // (1,C)
  ConstTensor bias;               // (1,C)
  ConstTensor slope;              // (1,1)
  ConstTensor shift;              // (1,1), or empty: 0
  double scale = 1;
};

// In gradient_type(), shaped as the parameters; `shift` is empty where the norm has none.
struct ElementwiseNormGradients {
  Tensor gain, bias, slope, shift;
};

struct SumFactors {
  double a = 1;
  double b = 1;
};

// Element e of sequence s (counted in the global batch) of a tensor is kept where the counter-based
// random number of (seed, step, s, tensor, e) says so, and then scaled by 1/(1 − probability).
struct Dropout {
  double probability = 0;  // 0 = off
  uint32_t tensor = 0;     // tells tensors of a model apart
};

// Causal attention of T_q queries over T_k ≥ T_q keys: query i sees keys 0 … T_k − T_q + i.
struct AttentionShape {
  int64_t batch = 0;
  int64_t query_tokens = 0;
  int64_t key_tokens = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads; query head h reads head h·kv_heads/heads
  int64_t head_size = 0;
};

// The auxiliary loss (std − target)² of each token, which holds the scale of the residual stream
// together while its norms are removed ("Transformers Don't Need LayerNorm at Inference Time",
// appendix B). The target is the mean of std over `group` sequences that follow each other, without
// each one's first token and without ends of text (1 where nothing is left); it is no variable of
// the gradient. Or it is given.
struct StdLoss {
  int64_t group = 1;         // sequences
  int32_t end_of_text = -1;  // −1: there is none
  double given_target = 0;   // 0: none is given
};

enum class WeightDecay { decoupled, coupled };  // AdamW; Adam with an L2 term in the gradient

struct AdamW {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  WeightDecay kind = WeightDecay::decoupled;
};

enum class RopeDirection { forward, backward };

class Ops {
 public:
  virtual ~Ops() = default;

  // --- Memory, streams, transfers
  virtual std::string device_name() const = 0;
  virtual DType working_type() const = 0;
  virtual DType gradient_type() const = 0;
  virtual DType statistics_type() const = 0;
  // Whether weights are rounded copies of masters in gradient_type(), which adamw updates.
  virtual bool has_masters() const = 0;
  // Throws Error where the device has not so much memory.
  virtual Memory allocate(int64_t bytes) = 0;
  virtual Memory allocate_pinned(int64_t bytes) = 0;
  virtual Stream create_stream() = 0;
  virtual Event create_event() = 0;
  virtual void record(Event event, Stream stream) = 0;
  virtual void wait(Stream stream, Event event) = 0;
  // Whether all that was before the event's last record, if any, is done. Does not wait.
  virtual bool event_reached(Event event) = 0;
  // What the device's own libraries call the stream: a cudaStream_t; null on the CPU.
  virtual void* native_stream(Stream stream) = 0;
  // Waits until all streams are idle.
  virtual void synchronize() = 0;
  // Contiguous tensors of equal size and type; `source`, `target` in host memory.
  virtual void upload(Tensor target, const void* source) = 0;
  virtual void upload_async(Tensor target, const void* source, Stream stream) = 0;
  virtual void download(void* target, ConstTensor source) = 0;

  // --- Step state
  virtual void set_step_state(const StepState& state) = 0;
  virtual StepResult download_step_result() = 0;

  // --- Moves. All of equal shape and type; row strides may differ. zero, copy: of any type
  virtual void zero(Tensor y) = 0;
  virtual void copy(Tensor y, ConstTensor x) = 0;
  // y = a + b, in the working type or in that of gradients; y may be a or b.
  virtual void add(Tensor y, ConstTensor a, ConstTensor b) = 0;
  // y = factors.a · a + factors.b · b (b may be empty), in the working type, rounded once; y may be
  // a or b.
  virtual void scaled_sum(Tensor y, ConstTensor a, ConstTensor b, const SumFactors& factors) = 0;

  // --- Embedding. tokens (B,T) i32; the row of (b,t) has position first_position + t
  // x (N,C) = token_table[tokens] (V,C) + position_table[position] (context, C), or without it.
  virtual void embedding_forward(Tensor x, ConstTensor tokens, ConstTensor token_table,
                                 ConstTensor position_table, int64_t first_position) = 0;
  // Accumulates into both tables (the second may be empty); deterministic. Positions from 0.
  virtual void embedding_backward(Tensor d_token_table, Tensor d_position_table, ConstTensor d_x,
                                  ConstTensor tokens) = 0;

  // --- Residual and norm: what stands between two sublayers
  // sum (N,C) = residual + branch (branch may be empty; sum may be residual), rounded to the
  // working type; then normed (N,C) = norm(sum), statistics (N,2) of it. sum may be empty where
  // branch is: then the norm reads residual.
  virtual void residual_norm_forward(Tensor sum, Tensor normed, Tensor statistics,
                                     ConstTensor residual, ConstTensor branch,
                                     const Norm& norm) = 0;
  // d_sum = norm'(d_normed) + d_residual (which may be empty); d_sum may be d_normed or d_residual.
  // Accumulates into d_gain (C) and d_bias (C; empty where the norm has none).
  virtual void residual_norm_backward(Tensor d_sum, Tensor d_gain, Tensor d_bias,
                                      ConstTensor d_normed, ConstTensor d_residual, ConstTensor sum,
                                      ConstTensor statistics, const Norm& norm) = 0;

  // --- Norm-free kinds, which may stand wherever a norm may. (N,C); rows apart from each other
  virtual void elementwise_norm_forward(Tensor y, ConstTensor x, const ElementwiseNorm& norm) = 0;
  // d_x = norm'(d_y) + d_residual (which may be empty); d_x may be d_y or d_residual. Accumulates
  // into the parameters' gradients, where they are given.
  virtual void elementwise_norm_backward(Tensor d_x, const ElementwiseNormGradients& d_parameters,
                                         ConstTensor d_y, ConstTensor d_residual, ConstTensor x,
                                         const ElementwiseNorm& norm) = 0;

  // --- Learnt factors of a branch and of the stream. x, y (N,C)
  // y = factor · x, factor (1,C) one a column (LayerScale, Touvron et al. 2021), or (1,1) one for
  // all (SkipInit, De & Smith 2020). y may be x.
  virtual void scale_forward(Tensor y, ConstTensor x, ConstTensor factor) = 0;
  // d_x = factor · d_y, which may be d_y; d_factor += the sums of d_y · x. Deterministic.
  virtual void scale_backward(Tensor d_x, Tensor d_factor, ConstTensor d_y, ConstTensor x,
                              ConstTensor factor) = 0;
  // Gradient-Preserving Activation Scaling (GPAS, Chen et al. 2025): y = x − silu(gate) · x, where
  // the second x is no variable of the gradient; gate (1,1). y may be x.
  virtual void gpas_forward(Tensor y, ConstTensor x, ConstTensor gate) = 0;
  // d_gate (1,1) −= silu'(gate) · Σ d_y · x. (d_x = d_y.)
  virtual void gpas_backward(Tensor d_gate, ConstTensor d_y, ConstTensor x, ConstTensor gate) = 0;

  // --- The std of rows, from statistics (N,2) = {mean, 1/std}. Of sequence b the first lengths[b]
  // tokens count, lengths (B,1) i32, row b·N/B + t
  // sums (1,2) f64 += {Σ std of the other tokens, Σ std of special ones}.
  virtual void add_stds(Tensor sums, ConstTensor statistics, ConstTensor lengths,
                        const SpecialTokens& special) = 0;
  // The step's std_loss += StepState.std_loss_scale · Σ losses, and d_x (N,C) += its gradient by
  // x (N,C), of which the statistics are: 2·(std − target)·(x − mean)/(C·std). tokens (B,T) i32.
  virtual void add_std_loss(Tensor d_x, ConstTensor x, ConstTensor statistics, ConstTensor tokens,
                            ConstTensor lengths, const StdLoss& settings) = 0;

  // --- Products. weight (O,I), bias (O) or empty
  // y (N,O) = x (N,I) · weightᵀ + bias.
  virtual void linear_forward(Tensor y, ConstTensor x, ConstTensor weight, ConstTensor bias) = 0;
  // d_x (N,I) = d_y (N,O) · weight.
  virtual void linear_backward_input(Tensor d_x, ConstTensor d_y, ConstTensor weight) = 0;
  // d_weight (O,I) += d_yᵀ · x; d_bias (O; may be empty) += column sums of d_y.
  virtual void linear_backward_weight(Tensor d_weight, Tensor d_bias, ConstTensor d_y,
                                      ConstTensor x) = 0;

  // --- Activations
  // y = gelu(x), the tanh approximation (Hendrycks & Gimpel 2016). (N,F) both.
  virtual void gelu_forward(Tensor y, ConstTensor x) = 0;
  // d_x = gelu'(x)·d_y; d_x may be d_y.
  virtual void gelu_backward(Tensor d_x, ConstTensor d_y, ConstTensor x) = 0;
  // y (N,F) = silu(gate)·up, gate_up (N,2F) = gate beside up (Shazeer 2020).
  virtual void swiglu_forward(Tensor y, ConstTensor gate_up) = 0;
  virtual void swiglu_backward(Tensor d_gate_up, ConstTensor d_y, ConstTensor gate_up) = 0;

  // --- Rotary positions, half-split (Su et al. 2021; LLaMA), in place on x (B·T, heads·D):
  // pairs (i, i + D/2) turn by position · base^(−2i/D), backward by the negative angle.
  // D even. tokens = T; the row of (b,t) has position first_position + t.
  virtual void rope(Tensor x, int64_t tokens, int64_t head_size, double base,
                    int64_t first_position, RopeDirection direction) = 0;

  // --- Attention, scale 1/√D, never a (T,T) matrix
  // z (B·T_q, H·D); lse (B·H, T_q) = log of the sum of exponentials, nats; q (B·T_q, H·D),
  // k, v (B·T_k, H_kv·D). Any row strides. Dropout falls on the probabilities, element
  // (h·T_q + i)·T_k + j of a sequence.
  virtual void attention_forward(Tensor z, Tensor lse, ConstTensor q, ConstTensor k, ConstTensor v,
                                 const AttentionShape& shape, const Dropout& dropout) = 0;
  virtual void attention_backward(Tensor d_q, Tensor d_k, Tensor d_v, ConstTensor d_z,
                                  ConstTensor z, ConstTensor lse, ConstTensor q, ConstTensor k,
                                  ConstTensor v, const AttentionShape& shape,
                                  const Dropout& dropout) = 0;

  // --- Dropout of rows (B·T, C) with B sequences of equal length; forward and backward alike.
  // y may be x. Element t·C + c of a sequence.
  virtual void dropout(Tensor y, ConstTensor x, int64_t batch, const Dropout& dropout) = 0;

  // --- Loss. logits (R,V); targets (R,1) i32, −1 = ignored; losses (R,1) nats, 0 where ignored
  // losses = logsumexp(logits) − logit of the target (never −log of a quotient).
  virtual void cross_entropy_forward(Tensor losses, ConstTensor logits, ConstTensor targets) = 0;
  // The same, and logits become their gradient times StepState.loss_scale, in place.
  virtual void cross_entropy_backward(Tensor losses, Tensor logits, ConstTensor targets) = 0;
  // Forgets the step's loss and std_loss.
  virtual void zero_loss() = 0;
  // The step's loss += StepState.loss_scale · Σ losses, in a fixed order.
  virtual void add_loss(ConstTensor losses) = 0;
  // (1,2) f64, the step's loss and std_loss themselves, on the device.
  virtual Tensor step_losses() = 0;

  // --- Update. Flat tensors (1,n), contiguous
  // Elements of a gradient whose squares make one partial sum: fixed, so that the norm has the same
  // bits however the arena is divided among ranks.
  static constexpr int64_t kNormBlock = 1 << 16;
  // partials (⌈n/kNormBlock⌉, 1) in statistics_type().
  virtual void sum_of_squares(Tensor partials, ConstTensor gradient) = 0;
  // StepState's gradient_norm, clip_scale, finite from all partials, in their order, and the loss.
  virtual void finish_gradient(ConstTensor partials) = 0;
  // value = master, rounded to the working type. Only where has_masters().
  virtual void round_weights(Tensor value, ConstTensor master) = 0;
  // One update (Kingma & Ba 2015; Loshchilov & Hutter 2019) as StepState says; decay only where
  // weight_decay > 0. Changes nothing where StepState.finite is false. Where has_masters(), it is
  // master that is updated, and value = master, rounded; else master is empty.
  virtual void adamw(Tensor value, Tensor master, Tensor first_moment, Tensor second_moment,
                     ConstTensor gradient, const AdamW& settings) = 0;
};

enum class Device { cpu, cuda };
// bf16: activations and weights rounded to bfloat16, with masters, moments, statistics and
// gradients of parameters in fp32. pure_bf16_…: without masters, on the CPU, in the three levels of
// kernels/cpu/pure_bf16.h. fp64: for checks, on the CPU.
enum class Precision {
  fp32,
  bf16,
  pure_bf16_weights,
  pure_bf16_gradients,
  pure_bf16_forward,
  fp64
};

// threads: of a CPU; 0 = as many as the machine has. gpu: which of those that this process sees,
// from 0; where it sees one alone, that. Throws Error where the device is not there.
std::unique_ptr<Ops> make_ops(Device device, Precision precision, int threads = 0, int gpu = 0);
// The vectors that the CPU's products are computed in: "AVX2".
std::string cpu_vectors();
// Whether a device can be used, and if not why: one line for --version.
bool cuda_available();
std::string cuda_status();

}  // namespace normlab
