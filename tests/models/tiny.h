// Tiny models with weights that let every mistake show: std 0.2, gains in [0.5, 1.5], no bias 0.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "models/model.h"

namespace normlab {

struct TinyCase {
  std::string name;
  ModelConfig config;
  int64_t batch = 2;
  int64_t tokens = 21;
};

// 3 layers, width 24, vocabulary 37, context 72.
ModelConfig tiny_gpt2();
// Grouped heads: 4 heads of 12 over 2.
ModelConfig tiny_llama();
// Both families, and between them every placement, norm, activation, tied or not, grouped or not,
// biased or not, and sequences longer than a block of attention.
std::vector<TinyCase> tiny_cases();

// Every placement and what may stand beside one; alternating orders have layers enough to change.
// All but the last can be checked by differences: GPAS's gradient is none of its forward's.
std::vector<TinyCase> placement_cases();

// Token ids and targets in host memory, (batch, tokens).
struct HostBatch {
  int64_t batch = 0;
  int64_t tokens = 0;
  std::vector<int32_t> ids, targets;

  // The tokens of a sequence that are no filling.
  int64_t length(int64_t sequence) const { return std::max<int64_t>(tokens - 2 * sequence, 1); }
  // Some sequences of it.
  HostBatch sequences(int64_t first, int64_t count) const;
};
// Ragged: sequences end early by different lengths, and some targets within are ignored too.
HostBatch random_batch(const ModelConfig& config, int64_t batch, int64_t tokens, uint64_t seed = 1);

// Standard normal, a function of its arguments.
double normal_number(uint64_t seed, uint64_t number, uint64_t element);

// A model with all that a test needs to run it.
class TinyModel {
 public:
  TinyModel(Ops& ops, const ModelConfig& config, const Workload& workload, uint64_t seed = 5);

  // The batch on the device, valid until the next call.
  Batch upload(const HostBatch& host);
  // Losses of all tokens after a forward pass.
  std::vector<double> losses(const HostBatch& host, Pass pass = Pass::evaluation,
                             Probe* probe = nullptr);
  // Forward and backward; gradients accumulate.
  void backward(const HostBatch& host, Pass pass = Pass::training, Probe* probe = nullptr,
                const BucketDone& bucket_done = {});
  // Logits (N,V) of a forward pass.
  std::vector<double> logits(const HostBatch& host);
  std::vector<double> gradients() { return read(model.gradients()); }
  void zero_gradients() { ops.zero(model.gradients()); }
  // Numbers of a tensor of any row stride, in its order; written, they are rounded to its type.
  std::vector<double> read(ConstTensor tensor) const;
  void write(Tensor tensor, const std::vector<double>& values);
  // Norm site i takes gates[i % size]: 1 is live, 0 frozen, else tapering; σ in [0.7, 1].
  void set_gates(const std::vector<double>& gates);

  Ops& ops;
  Model model;

 private:
  void fill(uint64_t seed);

  Memory tokens_memory_, targets_memory_, lengths_memory_, logits_memory_;
};

Workload training(int64_t micro_batch, int64_t tokens);
Workload inference(int64_t micro_batch, int64_t tokens);

std::unique_ptr<Ops> single_precision(int threads = 1);
std::unique_ptr<Ops> double_precision();
std::unique_ptr<Ops> bf16_precision(int threads = 1);

// Equal numbers; in a check of its own, because Catch would print all of them.
bool same_bits(const std::vector<double>& one, const std::vector<double>& other);
// Largest difference as a share of the largest element of `expected`; inf where one is not finite.
double relative_error(const std::vector<double>& actual, const std::vector<double>& expected);

}  // namespace normlab
