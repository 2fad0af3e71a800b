#include "engine/norm_removal.h"

#include <algorithm>

#include "engine/config_names.h"

namespace normlab {
namespace {

bool of_attention_input(NormRole role) {
  return role == NormRole::attention_qk || role == NormRole::attention_v;
}

}  // namespace

NormRemoval::NormRemoval(Model& model, const NormRemovalConfig& config, int32_t end_of_text)
    : model_(model), config_(config) {
  for (size_t index = 0; index < model.norm_sites().size(); ++index) {
    if (config.phases.contains(model.norm_sites()[index].role)) sites_.push_back(site_of(index));
  }
  if (config.auxiliary_loss_weight > 0) {
    model.set_std_loss(StdLoss{.group = config.auxiliary_group,
                               .end_of_text = end_of_text,
                               .given_target = config.auxiliary_target});
  }
}

NormRemoval::Site NormRemoval::site_of(size_t index) const {
  const NormSite& norm = model_.norm_sites()[index];
  Site site;
  site.index = index;
  site.tracks_until = removal_step(config_, norm.role, norm.layer);
  site.momentum = config_.phases.at(norm.role).momentum;
  if (config_.std == StdSharing::separate || !of_attention_input(norm.role)) return site;
  // One σ, with the momentum of queries and keys, until the last of the two is removed.
  for (const NormRole role : {NormRole::attention_v, NormRole::attention_qk}) {
    if (!config_.phases.contains(role)) continue;
    site.tracks_until = std::max(site.tracks_until, removal_step(config_, role, norm.layer));
    site.momentum = config_.phases.at(role).momentum;
  }
  return site;
}

void NormRemoval::restore(const std::vector<NormRecord>& norms) {
  set_norm_states(model_, norms);
  for (Site& site : sites_) {
    const NormSite& own = model_.norm_sites()[site.index];
    for (const NormRecord& norm : norms) {
      if (norm.role == own.role && norm.layer == own.layer) site.sigma = norm.state.sigma;
    }
  }
}

std::vector<NormRecord> NormRemoval::records() const {
  std::vector<NormRecord> norms = norm_records(model_);
  for (const Site& site : sites_) norms[site.index].state.sigma = site.sigma;
  const bool nothing_said = std::all_of(norms.begin(), norms.end(), [](const NormRecord& norm) {
    return norm.state.live() && norm.state.sigma == 0;
  });
  return nothing_said ? std::vector<NormRecord>{} : norms;
}

std::map<std::string, double> NormRemoval::stds() const {
  std::map<std::string, double> stds;
  for (const Site& site : sites_) {
    const NormSite& norm = model_.norm_sites()[site.index];
    std::string name = name_of(norm.role, norm_role_names);
    if (norm.layer >= 0) name += "." + std::to_string(norm.layer);
    if (site.sigma > 0) stds[name] = site.sigma;
  }
  return stds;
}

void NormRemoval::set_states(int64_t update) {
  for (const Site& site : sites_) {
    const NormSite& norm = model_.norm_sites()[site.index];
    const NormState state{gate_at(config_, norm.role, norm.layer, update - 1), site.sigma};
    if (state != norm.state) model_.set_norm_state(site.index, state);
  }
}

std::vector<RemovalEvent> NormRemoval::begin_step(int64_t step) {
  set_states(step + 1);
  tracks_ = std::any_of(sites_.begin(), sites_.end(),
                        [&](const Site& site) { return step < site.tracks_until; });
  if (tracks_) model_.zero_norm_stds();
  std::vector<RemovalEvent> events = removal_schedule(config_, model_.config().layers);
  std::erase_if(events, [&](const RemovalEvent& event) { return event.step != step; });
  return events;
}

void NormRemoval::add(const Batch& batch) {
  if (tracks_) model_.add_norm_stds(batch);
}

void NormRemoval::end_step(int64_t step, int64_t tokens) {
  if (!tracks_ || tokens == 0) return;
  const std::vector<double> sums = model_.download_norm_stds();
  for (Site& site : sites_) {
    if (step > site.tracks_until) continue;
    const double mean = sums[site.index] / static_cast<double>(tokens);
    const double weight = site.sigma > 0 ? site.momentum : 0;
    site.sigma = weight * site.sigma + (1 - weight) * mean;
  }
  set_states(step);
}

void NormRemoval::cancel_step(int64_t step) { set_states(step); }

double NormRemoval::std_loss_scale(int64_t tokens) const {
  return tokens > 0 ? config_.auxiliary_loss_weight / static_cast<double>(tokens) : 0;
}

}  // namespace normlab
