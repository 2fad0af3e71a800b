#include "engine/analysis/step_diagnostics.h"

#include <cmath>

#include "engine/analysis/stream_statistics.h"
#include "engine/weights.h"
#include "kernels/numbers.h"

namespace normlab {

StepDiagnostics::StepDiagnostics(const Model& model, const Optimizer& optimizer)
    : model_(model),
      weights_(optimizer.masters() ? optimizer.masters() : model.values()),
      before_(download_floats(model.ops(), weights_)),
      variance_sums_(static_cast<size_t>(model.config().layers)),
      distance_sums_(variance_sums_.size()) {}

void StepDiagnostics::begin_pass(const HostBatch& batch, int64_t first, int64_t count) {
  counts_.clear();
  for (int64_t sequence = first; sequence < first + count; ++sequence) {
    const int64_t length = batch.lengths[static_cast<size_t>(sequence)];
    tokens_ += length;
    for (int64_t token = 0; token < batch.tokens_per_sequence; ++token) {
      counts_.push_back(token < length);
    }
  }
}

void StepDiagnostics::activation(ProbeSite site, int64_t layer, Tensor tensor, int64_t) {
  const bool last = site == ProbeSite::final_pre;
  if (!last && site != ProbeSite::residual_pre) return;
  const std::vector<double> rows = download_numbers(model_.ops(), tensor);
  if (last) layer = model_.config().layers;
  if (layer > 0) add_state(layer, rows);
  state_ = rows;
}

// The output of layer number − 1, whose input is state_.
void StepDiagnostics::add_state(int64_t number, const std::vector<double>& rows) {
  const auto layer = static_cast<size_t>(number - 1);
  const auto width = static_cast<size_t>(model_.config().width);
  for (size_t row = 0; row < counts_.size(); ++row) {
    if (!counts_[row]) continue;
    const std::span<const double> input(state_.data() + row * width, width);
    const std::span<const double> output(rows.data() + row * width, width);
    variance_sums_[layer] += population_variance(output);
    distance_sums_[layer] += angular_distance(input, output);
  }
}

LayerDiagnostics StepDiagnostics::end() const {
  const size_t layers = variance_sums_.size();
  std::vector<double> gradients(layers), updates(layers), weights(layers);
  for (const Parameter& parameter : model_.parameters()) {
    if (parameter.layer < 0) continue;
    const auto layer = static_cast<size_t>(parameter.layer);
    const auto offset = static_cast<size_t>(parameter.arena_offset);
    for (const float gradient : download_floats(model_.ops(), parameter.gradient)) {
      gradients[layer] += double{gradient} * double{gradient};
    }
    const std::vector<float> after = download_floats(model_.ops(), parameter.part_of(weights_));
    for (size_t i = 0; i < after.size(); ++i) {
      const double before = before_[offset + i], update = after[i] - before;
      updates[layer] += update * update;
      weights[layer] += before * before;
    }
  }
  LayerDiagnostics found;
  for (size_t layer = 0; layer < layers; ++layer) {
    found.output_variance.push_back(variance_sums_[layer] / static_cast<double>(tokens_));
    found.angular_distance.push_back(distance_sums_[layer] / static_cast<double>(tokens_));
    found.gradient_norm.push_back(std::sqrt(gradients[layer]));
    found.update_ratio.push_back(std::sqrt(updates[layer] / weights[layer]));
  }
  return found;
}

}  // namespace normlab
