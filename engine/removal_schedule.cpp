#include "engine/removal_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "engine/config_names.h"

namespace normlab {
namespace {

// In the paper's order; a model has either `attention` or the two after it.
constexpr NormRole kRoles[] = {NormRole::mlp, NormRole::attention, NormRole::attention_qk,
                               NormRole::attention_v, NormRole::final};

std::string key_of(NormRole role) {
  return std::string("norm_removal.") + name_of(role, norm_role_names);
}

// The update after which the last norm of a place is frozen.
int64_t last_step(const NormRemovalConfig& config, NormRole role, int64_t layers) {
  return removal_step(config, role, layers - 1) + config.taper_steps - 1;
}

// σ stands for the std of a norm that stands alone before or after its sublayer.
void require_removable(const NormConfig& norm) {
  if (is_elementwise(norm.kind)) {
    throw input_error(std::string("norm_removal (model.norm.kind: ") +
                      name_of(norm.kind, norm_kind_names) +
                      " has no std that could be frozen). Leave it out");
  }
  for (const NormPlacement alone :
       {NormPlacement::pre, NormPlacement::post, NormPlacement::lns, NormPlacement::none}) {
    if (norm.placement == alone) return;
  }
  throw input_error(std::string("norm_removal (norms are removed where model.norm.placement is "
                                "pre, post or lns, and this one is ") +
                    name_of(norm.placement, placement_names) + "). Leave it out");
}

void require_site(const ModelConfig& model, NormRole role) {
  ModelConfig one_layer = model;
  one_layer.layers = 1;
  std::string roles;
  for (const NormSite& site : make_structure(one_layer).sites) {
    if (site.role == role) return;
    roles += (roles.empty() ? "" : ", ") + std::string(name_of(site.role, norm_role_names));
  }
  throw input_error(
      key_of(role) + " (the model has no such norm). " +
      (roles.empty() ? "Leave norm_removal out: it has none at all" : "It has: " + roles));
}

// Where tokens are special to a norm, and until when.
void check_special(const Config& config) {
  const NormRemovalConfig& removal = config.norm_removal;
  if (removal.eot_start > 0 && !removal.phases.contains(NormRole::attention_v)) {
    throw input_error(
        "norm_removal.eot (ends of text have a std of their own at attention_v alone, which is not "
        "removed). Delete it, or remove attention_v");
  }
  for (const auto& [name, start] :
       {std::pair{"bos", removal.bos_start}, {"eot", removal.eot_start}}) {
    if (start < config.schedule.total_steps) continue;
    throw input_error(std::string("norm_removal.") + name + ".start = " + std::to_string(start) +
                      " (schedule.total_steps is " + std::to_string(config.schedule.total_steps) +
                      "). Begin earlier, or train longer");
  }
}

// Whether all tokens of a norm share one std when training ends.
bool special_ends(const Config& config) {
  const NormRemovalConfig& removal = config.norm_removal;
  const auto ends = [&](int64_t start) { return start > 0 && start < config.schedule.stop_step; };
  const bool has_ends_of_text = removal.phases.contains(NormRole::attention_v);
  return ends(removal.bos_start) && (!has_ends_of_text || ends(removal.eot_start));
}

}  // namespace

int64_t removal_step(const NormRemovalConfig& config, NormRole role, int64_t layer) {
  const RemovalPhase& phase = config.phases.at(role);
  return phase.start + phase.gap * std::max<int64_t>(layer, 0);
}

double gate_at(const NormRemovalConfig& config, NormRole role, int64_t layer, int64_t step) {
  const int64_t begun = step - removal_step(config, role, layer) + 1;
  if (begun <= 0) return 1;
  if (begun >= config.taper_steps) return 0;
  const double part = static_cast<double>(begun) / static_cast<double>(config.taper_steps);
  return (1 + std::cos(std::numbers::pi * part)) / 2;
}

std::vector<RemovalEvent> removal_schedule(const NormRemovalConfig& config, int64_t layers) {
  std::vector<RemovalEvent> events;
  for (const NormRole role : kRoles) {
    if (!config.phases.contains(role)) continue;
    const bool final = role == NormRole::final;
    for (int64_t layer = final ? -1 : 0; layer < (final ? 0 : layers); ++layer) {
      const int64_t begin = removal_step(config, role, layer);
      const int64_t end = begin + config.taper_steps - 1;
      if (end > begin) events.push_back({begin, RemovalEventKind::taper, role, layer});
      events.push_back({end, RemovalEventKind::remove, role, layer});
      if (config.eot_start > 0 && role == NormRole::attention_v) {
        events.push_back({config.eot_start, RemovalEventKind::eot, role, layer});
      }
      if (config.bos_start > 0) {
        events.push_back({config.bos_start, RemovalEventKind::bos, role, layer});
      }
    }
  }
  std::stable_sort(events.begin(), events.end(),
                   [](const auto& a, const auto& b) { return a.step < b.step; });
  return events;
}

void check_removal(const Config& config, const std::vector<NormRecord>& norms) {
  const NormRemovalConfig& removal = config.norm_removal;
  if (removal.is_given()) require_removable(config.model.norm);
  for (const auto& [role, phase] : removal.phases) {
    require_site(config.model, role);
    for (const NormRecord& norm : norms) {
      if (norm.role != role) continue;
      throw input_error(key_of(role) + " (" + place_of(norm) +
                        " is removed already in the model that the run begins with). Delete it");
    }
    const int64_t last = last_step(removal, role, config.model.layers);
    if (last < config.schedule.total_steps) continue;
    throw input_error(key_of(role) + " (its last norm would be removed at step " +
                      std::to_string(last) + ", and schedule.total_steps is " +
                      std::to_string(config.schedule.total_steps) +
                      "). Begin earlier, shorten the gap, or train longer");
  }
  check_special(config);
  const NormPlacement placement = config.model.norm.placement;
  if (removal.auxiliary_loss_weight > 0 && placement != NormPlacement::pre &&
      placement != NormPlacement::lns) {
    throw input_error(std::string("norm_removal.auxiliary_loss_weight (it holds together what goes "
                                  "into the final norm of a model with norms before sublayers, and "
                                  "this one has ") +
                      name_of(placement, placement_names) + "). Delete it");
  }
}

std::vector<std::string> removal_warnings(const Config& config) {
  const NormRemovalConfig& removal = config.norm_removal;
  std::vector<std::string> warnings;
  const NormRole* before = nullptr;
  int64_t live = 0;
  for (const NormRole& role : kRoles) {
    if (!removal.phases.contains(role)) continue;
    if (before != nullptr) {
      const int64_t earlier = last_step(removal, *before, config.model.layers);
      if (removal.phases.at(role).start < earlier) {
        warnings.push_back(key_of(role) + " begins at step " +
                           std::to_string(removal.phases.at(role).start) + ", before " +
                           key_of(*before) + " ends at step " + std::to_string(earlier) +
                           " (\"Transformers Don't Need LayerNorm at Inference Time\" removes all "
                           "norms of one place before the next, in the order mlp, attention_qk, "
                           "attention_v, final)");
      }
    }
    before = &role;
  }
  for (const RemovalEvent& event : removal_schedule(removal, config.model.layers)) {
    const bool late = event.step >= config.schedule.stop_step;
    if (late && event.kind == RemovalEventKind::remove) ++live;
  }
  if (removal.special_std && !special_ends(config)) {
    warnings.push_back(
        "norm_removal.special_std stays to the end without norm_removal.bos and norm_removal.eot "
        "(a model whose tokens have two stds is none that export can fold)");
  }
  if (live > 0) {
    warnings.push_back("norm_removal leaves " + std::to_string(live) +
                       " norms that are not removed before schedule.stop_step = " +
                       std::to_string(config.schedule.stop_step));
  }
  return warnings;
}

std::string what_happens(RemovalEventKind kind) {
  switch (kind) {
    case RemovalEventKind::taper:
      return " begins to fade out";
    case RemovalEventKind::remove:
      return " is removed";
    case RemovalEventKind::eot:
      return " divides ends of text as other tokens";
    case RemovalEventKind::bos:
      return " divides first tokens as others";
  }
  throw Error("unknown event of a removal");
}

}  // namespace normlab
