// Small models whose weights let every mistake show, with norms in any state.
#pragma once

#include <cmath>

#include "engine/norm_states.h"
#include "kernels/random.h"
#include "small_model.h"
#include "temporary_folder.h"

namespace normlab::test {

// In (−1, 1), a function of its arguments.
inline float spread(uint64_t parameter, uint64_t element) {
  const uint64_t bits = mix(mix(parameter + 1) ^ element) >> 11;
  return static_cast<float>(2 * (static_cast<double>(bits) + 0.5) / 9007199254740992.0 - 1);
}

// Matrices within ±0.5, gains in [0.5, 1.5], no bias 0.
inline void scatter(Model& model) {
  for (size_t i = 0; i < model.parameters().size(); ++i) {
    const Parameter& parameter = model.parameters()[i];
    std::vector<float> values(static_cast<size_t>(parameter.value.elements()));
    for (size_t e = 0; e < values.size(); ++e) {
      values[e] = (parameter.start != 0 ? 1.f : 0.f) + 0.5f * spread(i, e);
    }
    upload_floats(model.ops(), parameter.value, values);
  }
}

// Every norm of a configuration; σ differ by site, those of values from those of queries and keys
// where `sharing` says so. Norm i has gates[i % size].
inline std::vector<NormRecord> norms_in_states(const ModelConfig& config,
                                               const std::vector<double>& gates,
                                               StdSharing sharing = StdSharing::separate) {
  std::vector<NormRecord> norms = frozen_norms(config.norm, config.layers, 1);
  for (size_t i = 0; i < norms.size(); ++i) {
    norms[i].state = {gates[i % gates.size()], 0.6 + 0.13 * static_cast<double>(i)};
    const bool same = sharing == StdSharing::shared && norms[i].role == NormRole::attention_v;
    if (same) norms[i].state = norms[i - 1].state;
  }
  return norms;
}

// A scattered model, ready for logits_of (export_check.h).
class CheckedModel {
 public:
  explicit CheckedModel(const ModelConfig& config, const std::vector<NormRecord>& norms = {},
                        Precision precision = Precision::fp32)
      : ops(make_ops(Device::cpu, precision, 1)),
        model(*ops, config, {1, config.context, Purpose::inference, attention_norms(norms)}) {
    scatter(model);
    set_norm_states(model, norms);
  }
  std::vector<float> values() { return download_floats(*ops, model.values()); }

  std::unique_ptr<Ops> ops;
  Model model;
};

// A model with scattered weights and its norms in these states, as a checkpoint has it.
inline void write_model(const TemporaryFolder& folder, const ModelConfig& config,
                        std::vector<NormRecord> norms) {
  CheckedModel small(config);
  write_weights(small.model, folder.path() + "/model.safetensors");
  std::erase_if(norms, [](const NormRecord& norm) { return norm.state.live(); });
  ModelDescription description;
  description.config = config;
  description.norms = norms;
  folder.write("config.json", config_json(description));
}

// The configurations whose norms can be folded away: between them both kinds of norm, tied and not,
// grouped heads and biases of every sort.
inline std::vector<std::pair<std::string, ModelConfig>> foldable_configs() {
  std::vector<std::pair<std::string, ModelConfig>> all = {
      {"gpt2", small_config(Family::gpt2)},
      {"llama", small_config(Family::llama)},
      {"gpt2 of rmsnorm", small_config(Family::gpt2)},
      {"qwen2", small_config(Family::llama)},
      {"llama of layernorm", small_config(Family::llama)}};
  all[2].second.norm.kind = NormKind::rmsnorm;
  all[2].second.tie_embeddings = false;
  all[3].second.biases = Biases::qkv;
  all[3].second.tie_embeddings = true;
  all[4].second.norm.kind = NormKind::layernorm;
  return all;
}

}  // namespace normlab::test
