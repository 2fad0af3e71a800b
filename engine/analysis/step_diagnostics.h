// StepDiagnostics: what one step of training does in each layer.
#pragma once

#include <vector>

#include "data/token_stream.h"
#include "engine/optimizer.h"
#include "models/model.h"

namespace normlab {

// One number a layer. Tokens are those of the step's batch that are no filling.
struct LayerDiagnostics {
  std::vector<double> output_variance;   // population_variance() of its output, mean over tokens
  std::vector<double> angular_distance;  // of its input and its output, mean over tokens
  std::vector<double> gradient_norm;     // L2, of all its parameters, before clipping
  std::vector<double> update_ratio;      // |Δw| / |w| of all its parameters, w before the update
};

// Lives for one step and reads only, so that the step has the same bits as without it. In training
// dropout is on, in what it sees too. It keeps a copy of the weights on the host: the masters where
// there are some.
class StepDiagnostics final : public Probe {
 public:
  // Before the step. The model and the optimizer must outlive it.
  StepDiagnostics(const Model& model, const Optimizer& optimizer);

  // Before each forward pass, with this as its probe: sequences [first, first + count) of a batch.
  void begin_pass(const HostBatch& batch, int64_t first, int64_t count);
  void activation(ProbeSite site, int64_t layer, Tensor tensor, int64_t first_row) override;
  // After the update, while the gradient is still there; waits.
  LayerDiagnostics end() const;

 private:
  void add_state(int64_t number, const std::vector<double>& rows);

  const Model& model_;
  Tensor weights_;             // the arena that is updated
  std::vector<float> before_;  // its numbers before the update
  std::vector<bool> counts_;   // of the rows of a pass: no filling
  std::vector<double> state_;  // (N,C) of the pass, the one seen last
  int64_t tokens_ = 0;
  std::vector<double> variance_sums_, distance_sums_;  // by layer
};

}  // namespace normlab
