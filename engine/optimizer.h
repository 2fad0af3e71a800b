// Optimizer: from accumulated gradients to new weights.
#pragma once

#include <vector>

#include "engine/config.h"
#include "models/model.h"
#include "models/structure.h"

namespace normlab {

class Optimizer {
 public:
  // Moments of the model's parameters, zero, and where Ops has masters those, equal to the model's
  // values. The model must outlive the optimizer.
  Optimizer(Model& model, const OptimizerConfig& config);

  // Enqueues: the gradients' global norm, clipping and finite check on the device, then one update
  // of every parameter as StepState says. Decay falls on matrices (and on embeddings where
  // configured), never on biases and norms.
  void step();

  // Flat arenas (1,n) in gradient_type(), in the layout of Model::values().
  Tensor first_moment() const { return first_moment_; }
  Tensor second_moment() const { return second_moment_; }
  // The weights in full; empty where the values are.
  Tensor masters() const { return masters_; }

  // Bytes of the moments and masters of a model with so many arena elements.
  static int64_t bytes(int64_t arena_elements, const NumberTypes& types) {
    return (types.has_masters ? 3 : 2) * arena_elements * size_of(types.gradient);
  }

 private:
  Model& model_;
  OptimizerConfig config_;
  Memory memory_;
  Tensor first_moment_, second_moment_, masters_;
  Memory partials_memory_;
  Tensor partials_;
};

}  // namespace normlab
