// Whole removals of the golden models, on any device, and how far they are from PyTorch's
// (tests/golden/fake_ln/README.md says what each key of expected.json is).
#pragma once

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "catch.h"
#include "engine/optimizer.h"
#include "engine/step_gradient.h"
#include "engine/weights.h"

namespace normlab::test {

using nlohmann::json;

inline std::string directory_of(const std::string& family) {
  return std::string(SOURCE_DIRECTORY) + "/tests/golden/fake_ln/" + family;
}

inline json expected_of(const std::string& family) {
  return json::parse(std::ifstream(directory_of(family) + "/expected.json"));
}

inline NormRemovalConfig removal_of(const json& settings, const json& run) {
  NormRemovalConfig removal;
  for (const auto& [role, phase] : settings.at("phases").items()) {
    removal.phases[choice_of(role, norm_role_names, NormRole::attention)] = {
        phase.at("start"), phase.at("gap"), phase.at("momentum")};
  }
  removal.std = run.at("std") == "shared" ? StdSharing::shared : StdSharing::separate;
  removal.taper_steps = run.at("taper_steps");
  removal.method = removal.taper_steps > 1 ? RemovalMethod::taper : RemovalMethod::step;
  removal.auxiliary_target = run.at("auxiliary_target");
  if (const json& special = run.at("special"); !special.is_null()) {
    removal.special_std = true;
    removal.eot_start = special[0];
    removal.bos_start = special[1];
  }
  removal.auxiliary_loss_weight = settings.at("auxiliary_loss_weight");
  removal.auxiliary_group = settings.at("auxiliary_group");
  return removal;
}

inline Config config_of(const json& expected, const json& run, int64_t micro_batch) {
  const json& settings = expected.at("settings");
  const json& lengths = expected.at("lengths");
  Config config;
  config.data.sequence_length = static_cast<int64_t>(expected.at("tokens")[0][0].size());
  config.batch.tokens_per_step =
      static_cast<int64_t>(lengths[0].size()) * config.data.sequence_length;
  config.batch.micro_batch = micro_batch;
  config.optimizer.learning_rate = settings.at("learning_rate");
  config.optimizer.beta1 = settings.at("beta1");
  config.optimizer.beta2 = settings.at("beta2");
  config.optimizer.epsilon = settings.at("epsilon");
  config.optimizer.weight_decay = settings.at("weight_decay");
  config.optimizer.gradient_clip = settings.at("gradient_clip");
  config.norm_removal = removal_of(settings, run);
  return config;
}

inline HostBatch batch_of(const json& expected, size_t update) {
  HostBatch batch;
  batch.lengths = expected.at("lengths")[update].get<std::vector<int32_t>>();
  batch.sequences = static_cast<int64_t>(batch.lengths.size());
  const auto append = [&](std::vector<int32_t>& all, const std::string& key) {
    for (const json& row : expected.at(key)[update]) {
      const auto ids = row.get<std::vector<int32_t>>();
      batch.tokens_per_sequence = static_cast<int64_t>(ids.size());
      all.insert(all.end(), ids.begin(), ids.end());
    }
  };
  append(batch.tokens, "tokens");
  append(batch.targets, "targets");
  batch.target_count = std::count_if(batch.targets.begin(), batch.targets.end(),
                                     [](int32_t target) { return target >= 0; });
  for (const int32_t length : batch.lengths) batch.token_count += length;
  return batch;
}

inline StepState step_state(const Config& config, const HostBatch& batch,
                            const NormRemoval& removal, size_t updates) {
  const auto update = static_cast<double>(updates + 1);
  StepState state;
  state.loss_scale = 1.0 / static_cast<double>(batch.target_count);
  state.std_loss_scale = removal.std_loss_scale(batch.token_count);
  state.learning_rate = config.optimizer.learning_rate;
  state.first_moment_correction = 1 - std::pow(config.optimizer.beta1, update);
  state.second_moment_correction = 1 - std::pow(config.optimizer.beta2, update);
  state.gradient_clip = config.optimizer.gradient_clip;
  return state;
}

inline double sum_of_squares(Ops& ops, ConstTensor tensor) {
  double sum = 0;
  if (tensor.dtype == DType::f64) {
    std::vector<double> values(static_cast<size_t>(tensor.elements()));
    ops.download(values.data(), tensor);
    for (const double value : values) sum += value * value;
  } else {
    for (const float value : download_floats(ops, tensor)) sum += double(value) * double(value);
  }
  return sum;
}

// What expected.json has under the same names.
struct Trajectory {
  std::vector<double> loss, auxiliary_loss, gradient_norm, gates, sigmas, special_sigmas;
  std::map<std::string, double> final_squares;
};

inline Trajectory train(Ops& ops, const std::string& family, const json& expected,
                        const Config& config) {
  Model model(ops, read_config_json(directory_of(family)).config, training_workload(config));
  load_weights(model, directory_of(family));
  Optimizer optimizer(model, config.optimizer);
  NormRemoval removal(model, config.norm_removal, expected.at("settings").at("end_of_text"));
  const auto communicator = make_local_communicator();
  StepGradient gradient(model, config, *communicator, removal);
  Trajectory found;
  for (size_t updates = 0; updates < expected.at("tokens").size(); ++updates) {
    const HostBatch batch = batch_of(expected, updates);
    removal.begin_step(static_cast<int64_t>(updates));
    for (const NormSite& site : model.norm_sites()) found.gates.push_back(site.state.gate);
    ops.zero_loss();
    REQUIRE(gradient.compute(batch, step_state(config, batch, removal, updates)));
    optimizer.step();
    const StepResult result = ops.download_step_result();
    const TokenCounts counts = count_tokens(batch, expected.at("settings").at("end_of_text"));
    removal.end_step(static_cast<int64_t>(updates + 1), counts);
    for (const NormRecord& norm : removal.records()) {
      found.sigmas.push_back(norm.state.sigma);
      found.special_sigmas.push_back(norm.state.special_sigma);
    }
    found.loss.push_back(result.loss);
    found.auxiliary_loss.push_back(result.std_loss);
    found.gradient_norm.push_back(result.gradient_norm);
  }
  for (const NamedSlice& slice : file_names(model.config())) {
    const Parameter& parameter = model.parameters()[static_cast<size_t>(slice.parameter)];
    found.final_squares[slice.name] = sum_of_squares(ops, slice.of(parameter.value));
  }
  return found;
}

// The numbers of lists within lists, in their order.
inline std::vector<double> flat(const json& numbers) {
  if (numbers.is_number()) return {numbers.get<double>()};
  std::vector<double> all;
  for (const json& entry : numbers) {
    const std::vector<double> part = flat(entry);
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

// The largest error by the largest magnitude.
inline double error_of(const std::vector<double>& actual, const json& numbers) {
  const std::vector<double> expected = flat(numbers);
  REQUIRE(actual.size() == expected.size());
  double error = 0, largest = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    error = std::max(error, std::abs(actual[i] - expected[i]));
    largest = std::max(largest, std::abs(expected[i]));
  }
  return largest > 0 ? error / largest : error;
}

struct GoldenRemoval {
  std::string family, run;
};

inline std::vector<GoldenRemoval> golden_removals() {
  return {{"gpt2", "shared"},
          {"gpt2", "separate_taper"},
          {"gpt2", "special"},
          {"llama", "shared"},
          {"llama", "fixed_target"}};
}

// `micro_batch`: sequences of a pass, a multiple of the auxiliary loss's group, 2.
inline void check_removal(Ops& ops, const GoldenRemoval& golden, int64_t micro_batch,
                          double bound) {
  const json expected = expected_of(golden.family);
  const json& run = expected.at("runs").at(golden.run);
  const Trajectory found =
      train(ops, golden.family, expected, config_of(expected, run, micro_batch));
  CHECK(error_of(found.gates, run.at("gates")) < 1e-15);
  CHECK(error_of(found.sigmas, run.at("sigmas")) < bound);
  CHECK(error_of(found.special_sigmas, run.at("special_sigmas")) < bound);
  CHECK(error_of(found.loss, run.at("loss")) < bound);
  CHECK(error_of(found.auxiliary_loss, run.at("auxiliary_loss")) < bound);
  CHECK(error_of(found.gradient_norm, run.at("gradient_norm")) < bound);
  CHECK(found.final_squares.size() == run.at("final_squares").size());
  for (const auto& [tensor, squares] : found.final_squares) {
    // A key bias has no gradient but rounding, of which Adam makes full steps.
    const bool noise = tensor.ends_with("c_attn.bias") && ops.working_type() != DType::f64;
    if (noise) continue;
    CAPTURE(tensor);
    CHECK(error_of({squares}, run.at("final_squares").at(tensor)) < bound);
  }
}

}  // namespace normlab::test
