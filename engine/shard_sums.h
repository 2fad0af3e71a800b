// ShardSums: the sums of a step shard by shard, so that their total has the same bits on any number
// of ranks.
#pragma once

#include <vector>

#include "engine/communicator.h"
#include "models/model.h"

namespace normlab {

// Of the step's loss, auxiliary loss, and the stds of every norm site.
class ShardSums {
 public:
  ShardSums(Model& model, int64_t shards);

  // What the step's sums hold becomes those of one shard; they are zero again. Enqueues.
  void keep(int64_t shard);
  // The step's sums become those of all shards of all ranks, added in the order of the shards;
  // nothing is kept any more. Waits.
  void total(Communicator& communicator);

 private:
  int64_t columns() const;
  Tensor losses_of(int64_t shard) const;
  Tensor stds_of(int64_t shard) const;

  Model& model_;
  Memory memory_;
  Tensor rows_;  // (shards, 2 + 2·sites) f64
};

}  // namespace normlab
