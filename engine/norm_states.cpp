#include "engine/norm_states.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/config_names.h"

namespace normlab {
namespace {

using nlohmann::json;

// Index of the site of a norm; as many as there are where there is none.
size_t site_of(const std::vector<NormSite>& sites, const NormRecord& norm) {
  const auto found = std::find_if(sites.begin(), sites.end(), [&](const NormSite& site) {
    return same_place({site.role, site.layer, {}}, norm);
  });
  return static_cast<size_t>(found - sites.begin());
}

}  // namespace

std::vector<NormRecord> frozen_norms(const NormConfig& config, int64_t layers, double sigma) {
  std::vector<NormRecord> norms;
  const auto add = [&](const std::optional<PlannedNorm>& norm) {
    if (!norm) return;
    norms.push_back({norm->role, norm->layer, {0, sigma}});
    if (norm->role == NormRole::attention_qk) {
      norms.push_back({NormRole::attention_v, norm->layer, {0, sigma}});
    }
  };
  for (const PlannedJoint& joint : norm_plan(config, layers)) {
    add(joint.inside);
    add(joint.after);
    add(joint.before);
  }
  return norms;
}

bool all_frozen(const std::vector<NormRecord>& norms) {
  return std::all_of(norms.begin(), norms.end(), [](const NormRecord& norm) {
    return norm.state.gate == 0 && !norm.state.has_special();
  });
}

std::vector<NormRecord> norm_records(const Model& model) {
  std::vector<NormRecord> norms;
  for (const NormSite& site : model.norm_sites()) {
    norms.push_back({site.role, site.layer, site.state});
  }
  return norms;
}

std::vector<NormRecord> norms_not_live(const Model& model) {
  std::vector<NormRecord> norms = norm_records(model);
  std::erase_if(norms, [](const NormRecord& norm) { return norm.state.live(); });
  return norms;
}

AttentionNorms attention_norms(const std::vector<NormRecord>& norms) {
  const auto state_at = [&](NormRole role, int64_t layer) {
    for (const NormRecord& norm : norms) {
      if (norm.role == role && norm.layer == layer) return norm.state;
    }
    return NormState{};
  };
  for (const NormRecord& norm : norms) {
    const bool differ =
        state_at(NormRole::attention_qk, norm.layer) != state_at(NormRole::attention_v, norm.layer);
    if (differ) return AttentionNorms::apart;
  }
  return AttentionNorms::together;
}

void set_norm_states(Model& model, const std::vector<NormRecord>& norms) {
  const std::vector<NormSite>& sites = model.norm_sites();
  std::vector<bool> seen(sites.size());
  for (const NormRecord& norm : norms) {
    const size_t site = site_of(sites, norm);
    if (site == sites.size()) {
      throw input_error(place_of(norm) +
                        " is not live (the model has no such norm). "
                        "Take the config.json that belongs to the weights");
    }
    if (seen[site]) {
      throw input_error(place_of(norm) +
                        " is named twice. Take the config.json that belongs to "
                        "the weights");
    }
    seen[site] = true;
    model.set_norm_state(site, norm.state);
  }
}

json norms_to_json(const std::vector<NormRecord>& norms) {
  json list = json::array();
  for (const NormRecord& norm : norms) {
    json entry = {{"site", name_of(norm.role, norm_role_names)},
                  {"layer", norm.layer < 0 ? json() : json(norm.layer)},
                  {"gate", norm.state.gate},
                  {"std", norm.state.sigma}};
    if (norm.state.has_special()) {
      entry["special_std"] = norm.state.special_sigma;
      entry["special_first"] = norm.state.special_first;
      entry["special_id"] = norm.state.special_id;
    }
    list.push_back(entry);
  }
  return list;
}

std::vector<NormRecord> norms_from_json(const json& list) {
  std::vector<NormRecord> norms;
  for (const json& entry : list.get<std::vector<json>>()) {
    NormRecord norm;
    const std::string word = entry.at("site").get<std::string>();
    norm.role = choice_of(word, norm_role_names, NormRole::attention);
    if (word != name_of(norm.role, norm_role_names)) {
      throw input_error("site = " + word + " (no norm has this place)");
    }
    if (!entry.at("layer").is_null()) norm.layer = entry["layer"].get<int64_t>();
    norm.state = {entry.at("gate").get<double>(), entry.at("std").get<double>(),
                  entry.value("special_std", 0.0), entry.value("special_first", false),
                  entry.value("special_id", int32_t{-1})};
    const NormState& state = norm.state;
    const auto usable = [&](double sigma) {
      return std::isfinite(sigma) && (state.live() || sigma > 0);
    };
    if (!(state.gate >= 0 && state.gate <= 1 && usable(state.sigma) &&
          (!state.has_special() || usable(state.special_sigma)))) {
      throw input_error(place_of(norm) +
                        " has a gate beyond [0, 1], or no std above 0 where it is not live");
    }
    norms.push_back(norm);
  }
  return norms;
}

bool same_place(const NormRecord& one, const NormRecord& other) {
  return one.role == other.role && one.layer == other.layer;
}

std::string place_of(const NormRecord& norm) {
  if (norm.role == NormRole::final) return "the final norm";
  if (norm.role == NormRole::embedding) return "the embedding's norm";
  return std::string(name_of(norm.role, norm_role_names)) + " of layer " +
         std::to_string(norm.layer);
}

}  // namespace normlab
