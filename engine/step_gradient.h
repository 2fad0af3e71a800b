// StepGradient: the gradient of one step's loss, over passes, shards and ranks.
#pragma once

#include <optional>
#include <vector>

#include "engine/analysis/step_diagnostics.h"
#include "engine/communicator.h"
#include "engine/evaluation.h"
#include "engine/norm_removal.h"
#include "engine/optimizer.h"
#include "engine/shard_sums.h"

namespace normlab {

// What a run asks of its model.
Workload training_workload(const Config& config);

// Buffers of the gradient tree of so many shards beside the model's own gradients.
int gradient_tree_levels(int64_t shards);

// A global batch is cut into shards, one for each rank or, where parallel.reproducible is on,
// parallel.shards; a shard into passes of at most batch.micro_batch sequences. A rank computes
// shards that follow each other. With parallel.reproducible their gradients are added in one binary
// tree, whose shape depends on the number of shards alone, from rank to rank where a node's halves
// are of two ranks: the same bits on any number of ranks.
class StepGradient {
 public:
  StepGradient(Model& model, const Config& config, Communicator& communicator,
               NormRemoval& removal);

  // What compute() leaves: of several ranks with parallel.zero_stage 1, each has its share.
  Optimizer::Gradients extent() const;

  // Leaves the gradient of all ranks in model.gradients() and adds their loss to the step's, their
  // stds to the model's. False where a stop was asked for, in a job of one rank: then none is of
  // use. (Several ranks agree to stop between steps.) `diagnostics` sees every pass.
  bool compute(const HostBatch& batch, StepState state, StepDiagnostics* diagnostics = nullptr);

 private:
  // Gradient of shards [first, last) of a batch into gradient buffer `buffer` of the rank that has
  // the first of them.
  bool accumulate(const HostBatch& batch, int64_t first, int64_t last, size_t buffer,
                  StepState& state);
  bool accumulate_shard(const HostBatch& batch, int64_t first, int64_t last, StepState& state);
  // The tree's node of two halves, each in the buffer of its rank.
  void add_halves(int64_t first, int64_t middle, size_t buffer);
  // Sums a bucket's gradients over all ranks.
  void reduce(int bucket);
  // The same of the step's other sums.
  void reduce_sums();
  int64_t shards() const;
  int64_t shard_begin(int64_t shard) const;  // first sequence
  int rank_of(int64_t shard) const;
  int64_t passes() const;                    // of a step

  Model& model_;
  const Config& config_;
  Communicator& communicator_;
  NormRemoval& removal_;
  StepDiagnostics* diagnostics_ = nullptr;  // of the step that is computed
  BatchUploader uploader_;
  // Gradient buffers of the tree: the model's own, then one for each level.
  Memory tree_memory_;
  std::vector<Tensor> tree_;
  std::optional<ShardSums> sums_;  // with parallel.reproducible
};

}  // namespace normlab
