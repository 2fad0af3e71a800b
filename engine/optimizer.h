// Optimizer: from accumulated gradients to new weights.
#pragma once

#include <memory>
#include <vector>

#include "engine/communicator.h"
#include "engine/config.h"
#include "engine/share.h"
#include "models/model.h"
#include "models/structure.h"

namespace normlab {

class Optimizer {
 public:
  // Moments of the model's parameters, zero, and where Ops has masters those, equal to the model's
  // values. With parallel.zero_stage 1 each rank has them of its share_of() the buckets alone. The
  // model and the communicator must outlive the optimizer.
  Optimizer(Model& model, const OptimizerConfig& config, Communicator& communicator,
            const ParallelConfig& parallel);
  // In a job of one rank.
  Optimizer(Model& model, const OptimizerConfig& config);

  // What the gradients hold when step() is called: the sums over all ranks, or, with zero_stage 1,
  // those of this rank's share alone (Communicator::sum_parts of every bucket).
  enum class Gradients { whole, own_share };

  // Enqueues: the gradients' global norm, clipping and finite check on the device, then one update
  // of every parameter as StepState says; with zero_stage 1 each rank updates its share, and
  // gathers the others'. Decay falls on matrices (and on embeddings where configured), never on
  // biases and norms.
  void step(Gradients gradients = Gradients::whole);

  // The parts of Model::values() that the moments are of: all, or this rank's share.
  const std::vector<Range>& share() const { return share_; }
  // Flat (1, total(share())) in gradient_type(): the ranges one after the other.
  Tensor first_moment() const { return first_moment_; }
  Tensor second_moment() const { return second_moment_; }
  // The weights in full, a flat arena like Model::values(); empty where the values are. Where each
  // rank has only its share of them, model.gradients() lends its room: read it after
  // collect_masters(), call keep_masters() after writing. Both do nothing elsewhere.
  Tensor masters() const;
  void collect_masters();
  void keep_masters();

  Communicator& communicator() const { return communicator_; }

  // Bytes of the moments and masters of so many elements.
  static int64_t bytes(int64_t elements, const NumberTypes& types) {
    return (types.has_masters ? 3 : 2) * elements * size_of(types.gradient);
  }

 private:
  bool sharded() const { return parallel_.zero_stage > 0 && communicator_.ranks() > 1; }
  void allocate();
  void sum_squares_of_share();
  void update(const Range& range, int64_t packed, double weight_decay);
  void copy_masters(Tensor arena, bool to_arena);

  Model& model_;
  OptimizerConfig config_;
  ParallelConfig parallel_;
  std::unique_ptr<Communicator> alone_;  // of a job of one rank
  Communicator& communicator_;
  std::vector<Range> share_;
  Memory memory_;
  Tensor first_moment_, second_moment_, masters_;
  Memory partials_memory_;
  Tensor partials_;        // of the whole gradient
  Tensor share_partials_;  // of every rank's share, rank by rank
};

}  // namespace normlab
