// StepGradient: the gradient of one step's loss, over passes, shards and ranks.
#pragma once

#include <vector>

#include "engine/analysis/step_diagnostics.h"
#include "engine/communicator.h"
#include "engine/evaluation.h"
#include "engine/norm_removal.h"

namespace normlab {

// What a run asks of its model.
Workload training_workload(const Config& config);

// Buffers of the gradient tree of so many shards beside the model's own gradients.
int gradient_tree_levels(int64_t shards);

// A global batch is cut into shards, one for each rank or, where parallel.reproducible is on,
// parallel.shards; a shard into passes of at most batch.micro_batch sequences.
class StepGradient {
 public:
  StepGradient(Model& model, const Config& config, Communicator& communicator,
               NormRemoval& removal);

  // Leaves the gradient in model.gradients() and adds the loss to the step's. False where a stop
  // was asked for: then neither is of use. `diagnostics` sees every pass.
  bool compute(const HostBatch& batch, StepState state, StepDiagnostics* diagnostics = nullptr);

 private:
  // Gradient of shards [first, last) of a batch into gradient buffer `buffer`, by a binary tree
  // whose shape depends on the number of shards alone.
  bool accumulate(const HostBatch& batch, int64_t first, int64_t last, size_t buffer,
                  StepState& state);
  bool accumulate_shard(const HostBatch& batch, int64_t first, int64_t last, StepState& state);
  // Sums a bucket's gradients over all ranks.
  void reduce(int bucket);
  int64_t shards() const;
  int64_t shard_begin(int64_t shard) const;  // first sequence
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
};

}  // namespace normlab
