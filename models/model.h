// Model: embedding, blocks, head and loss of one decoder-only transformer.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "kernels/ops.h"
#include "models/structure.h"

namespace normlab {

// Sequences of a pass, on the device. B ≤ micro_batch and T ≤ tokens of the workload.
struct Batch {
  ConstTensor tokens;   // (B,T) i32
  ConstTensor targets;  // (B,T) i32, −1 = ignored; may be empty where no loss is asked for
  // (B,1) i32, the tokens of each sequence that are no filling; may be empty where no std is asked
  // for.
  ConstTensor lengths = {};
};

// Σ std of what went into a norm.
struct NormStdSums {
  double others = 0;   // over tokens that are not special to it
  double special = 0;  // over those that are
};

using BucketDone = std::function<void(int bucket)>;

class Model {
 public:
  // Validates the configuration and allocates everything; weights are uninitialised.
  Model(Ops& ops, const ModelConfig& config, const Workload& workload);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  Ops& ops() const { return ops_; }
  const ModelConfig& config() const { return config_; }
  const Workload& workload() const { return workload_; }
  const std::vector<Parameter>& parameters() const { return structure_.parameters; }
  const std::vector<Bucket>& buckets() const { return structure_.buckets; }
  const std::vector<NormSite>& norm_sites() const { return structure_.sites; }
  // From the next forward on, which throws where queries and keys differ from values and the
  // workload has no room for it.
  void set_norm_state(size_t site, const NormState& state);
  // The flat arenas (1,n), in working_type() and gradient_type(); `gradients` is empty in a model
  // for inference.
  Tensor values() const { return values_; }
  Tensor gradients() const { return gradients_; }
  // The parameters' gradients accumulate in another flat tensor of the same size from now on.
  void set_gradients(Tensor gradients);

  // Random weights, a function of seed and configuration alone. Where there are masters, an arena
  // like values(), they take the numbers and the values are rounded from them.
  void initialize(uint64_t seed, Tensor masters = {});

  // Everything up to the head's input. A model for training keeps what backward needs.
  void forward(const Batch& batch, Pass pass, Probe* probe = nullptr);
  // The same for layers from `layer` on, from the residual stream x (N,C) before that layer;
  // layer = layers: only what follows the last one.
  void forward_from(int64_t layer, ConstTensor x, const Batch& batch, Pass pass,
                    Probe* probe = nullptr);
  // Of those only [first, end). Returns the residual stream after them (N,C), valid until the next
  // pass; where end < layers, nothing that follows the last layer is computed.
  Tensor forward_layers(int64_t first, int64_t end, ConstTensor x, const Batch& batch, Pass pass,
                        Probe* probe = nullptr);
  // The head's input after the last forward, (N,C).
  Tensor final_activation() const { return structure_.joints.back().normed(rows_); }
  // logits (R,V) of some rows (R,C) of the head's input.
  void head(Tensor logits, ConstTensor x);
  // Loss of each token (N,1), nats, of the batch that forward saw last; overwritten by the next
  // call of losses or backward.
  Tensor losses(const Batch& batch, Probe* probe = nullptr);
  // After forward(batch): adds the loss to the step's and accumulates the gradients of
  // StepState.loss_scale · Σ losses; calls bucket_done with each bucket that is complete. Where
  // activations are computed again, once after each forward.
  void backward(const Batch& batch, const BucketDone& bucket_done = {}, Probe* probe = nullptr);

  // Of each site the Σ std of what went in, over the tokens that count in all batches since
  // zero_norm_stds; after forward of a model for training.
  void zero_norm_stds();
  void add_norm_stds(const Batch& batch);
  std::vector<NormStdSums> download_norm_stds();
  // (sites, 2) f64, those sums themselves, on the device.
  Tensor norm_std_sums() const { return structure_.std_sums; }
  // backward adds the auxiliary loss, of the final norm's input, times StepState.std_loss_scale.
  void set_std_loss(const std::optional<StdLoss>& settings);

  // Generation of one sequence: forgets all tokens; then each call of decode appends tokens
  // (1,T_new) and returns the logits (1,V) of the last one. At most config().context in all.
  void start_decoding();
  Tensor decode(ConstTensor tokens);
  int64_t decoded_tokens() const { return decoded_tokens_; }

 private:
  PassContext context(const Batch& batch, Pass pass, Probe* probe);
  void run_layers(const PassContext& pass, int64_t first, int64_t end);
  void finish_sublayer(const PassContext& pass, size_t joint, int64_t dropout, ProbeSite branch);
  void compute_again(const PassContext& pass, size_t layer);
  void head_backward(const PassContext& pass, const Batch& batch);
  JointSites sites_shown(size_t joint) const;
  AttentionInput<ConstTensor> attention_input(const PassContext& pass, size_t layer);

  Ops& ops_;
  ModelConfig config_;
  Workload workload_;
  ModelStructure structure_;
  Memory values_memory_, gradients_memory_, activations_memory_, cache_memory_;
  Tensor values_, gradients_;
  int64_t rows_ = 0;              // of the last forward
  Pass pass_ = Pass::evaluation;  // of the last forward
  bool last_layer_kept_ = false;  // its activations are there, for compute_again
  int64_t decoded_tokens_ = 0;
  std::optional<StdLoss> std_loss_;
};

}  // namespace normlab
