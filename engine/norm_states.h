// What became of a model's norms: kept beside its weights, in config.json and state.json.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "models/model.h"

namespace normlab {

// One norm of a model, by its place.
struct NormRecord {
  NormRole role = NormRole::attention;
  int64_t layer = -1;  // counts from 0; −1: the final norm
  NormState state;
};

// Every norm of a configuration with the same std, frozen, in the order of a model's sites. Pure.
std::vector<NormRecord> frozen_norms(const NormConfig& config, int64_t layers, double sigma);
// Whether each of them divides every token by the same σ.
bool all_frozen(const std::vector<NormRecord>& norms);
// Every norm of a model, in the order of its sites; and those alone that are not live.
std::vector<NormRecord> norm_records(const Model& model);
std::vector<NormRecord> norms_not_live(const Model& model);
// The room that a workload must have for them.
AttentionNorms attention_norms(const std::vector<NormRecord>& norms);
// Has the model compute them so; the others stay as they are. Throws an input Error where the model
// has no such norm, or one stands twice.
void set_norm_states(Model& model, const std::vector<NormRecord>& norms);

// [{"site": "mlp", "layer": 0, "gate": 0.0, "std": 1.5}, …]; the final norm's layer is null. Where
// tokens have a σ of their own: "special_std", "special_first", "special_id" beside.
nlohmann::json norms_to_json(const std::vector<NormRecord>& norms);
// Throws nlohmann's exception for another shape, and an input Error for a site that is none, a gate
// beyond [0, 1] or a std that is not above 0 where the gate is below 1.
std::vector<NormRecord> norms_from_json(const nlohmann::json& list);

bool same_place(const NormRecord& one, const NormRecord& other);
// "mlp of layer 3", "the final norm".
std::string place_of(const NormRecord& norm);

}  // namespace normlab
