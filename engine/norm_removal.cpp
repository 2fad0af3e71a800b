#include "engine/norm_removal.h"

#include <algorithm>
#include <cmath>

#include "engine/config_names.h"

namespace normlab {
namespace {

bool of_attention_input(NormRole role) {
  return role == NormRole::attention_qk || role == NormRole::attention_v;
}

// The running mean after one more step. No tokens, no news.
double moved(double sigma, double momentum, double sum, int64_t tokens) {
  if (tokens == 0) return sigma;
  const double mean = sum / static_cast<double>(tokens);
  if (!std::isfinite(mean)) {
    throw Error(ErrorKind::diverged,
                "the std of a norm's input is not finite, though the loss is (a live norm hides "
                "it). Lower optimizer.learning_rate or set optimizer.gradient_clip, in another "
                "run.directory");
  }
  return sigma > 0 ? momentum * sigma + (1 - momentum) * mean : mean;
}

int64_t special_tokens(const TokenCounts& tokens, const NormState& state) {
  const int64_t first = state.special_first ? tokens.first : 0;
  if (state.special_id < 0) return first;
  return first + tokens.ends_of_text + (state.special_first ? 0 : tokens.first_ends);
}

}  // namespace

TokenCounts count_tokens(const HostBatch& batch, int32_t end_of_text) {
  TokenCounts counts;
  counts.total = batch.token_count;
  for (int64_t sequence = 0; sequence < batch.sequences; ++sequence) {
    const int64_t length = batch.lengths[static_cast<size_t>(sequence)];
    if (length == 0) continue;
    const auto begin = batch.tokens.begin() + sequence * batch.tokens_per_sequence;
    const bool first_ends = *begin == end_of_text;
    ++counts.first;
    counts.first_ends += first_ends ? 1 : 0;
    counts.ends_of_text += std::count(begin, begin + length, end_of_text) - (first_ends ? 1 : 0);
  }
  return counts;
}

NormRemoval::NormRemoval(Model& model, const NormRemovalConfig& config, int32_t end_of_text)
    : model_(model), config_(config), end_of_text_(end_of_text) {
  for (size_t index = 0; index < model.norm_sites().size(); ++index) {
    if (config.phases.contains(model.norm_sites()[index].role)) sites_.push_back(site_of(index));
  }
  set_states(0);
  if (config.auxiliary_loss_weight > 0) {
    model.set_std_loss(StdLoss{.group = config.auxiliary_group,
                               .end_of_text = end_of_text,
                               .given_target = config.auxiliary_target});
  }
}

NormRemoval::Site NormRemoval::site_of(size_t index) const {
  const NormSite& norm = model_.norm_sites()[index];
  Site site;
  site.index = site.source = index;
  site.tracks_until = removal_step(config_, norm.role, norm.layer);
  site.momentum = config_.phases.at(norm.role).momentum;
  if (config_.std == StdSharing::separate || !of_attention_input(norm.role)) return site;
  // One σ, with the momentum of queries and keys, until the last of the two is removed.
  for (const NormRole role : {NormRole::attention_v, NormRole::attention_qk}) {
    if (!config_.phases.contains(role)) continue;
    site.tracks_until = std::max(site.tracks_until, removal_step(config_, role, norm.layer));
    site.momentum = config_.phases.at(role).momentum;
  }
  // Values have more special tokens: those are no part of it.
  for (size_t i = 0; i < model_.norm_sites().size(); ++i) {
    const NormSite& other = model_.norm_sites()[i];
    const bool values = other.role == NormRole::attention_v && other.layer == norm.layer;
    if (values && config_.phases.contains(NormRole::attention_v)) site.source = i;
  }
  return site;
}

void NormRemoval::restore(const std::vector<NormRecord>& norms) {
  set_norm_states(model_, norms);
  for (Site& site : sites_) {
    const NormSite& own = model_.norm_sites()[site.index];
    for (const NormRecord& norm : norms) {
      if (norm.role != own.role || norm.layer != own.layer) continue;
      site.sigma = norm.state.sigma;
      site.special_sigma = norm.state.special_sigma;
    }
  }
}

std::vector<NormRecord> NormRemoval::records() const {
  std::vector<NormRecord> norms = norm_records(model_);
  for (const Site& site : sites_) {
    norms[site.index].state.sigma = site.sigma;
    norms[site.index].state.special_sigma = site.special_sigma;
  }
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
    if (norm.state.has_special() && site.special_sigma > 0)
      stds[name + ".special"] = site.special_sigma;
  }
  return stds;
}

NormState NormRemoval::state_of(const Site& site, int64_t update) const {
  const NormSite& norm = model_.norm_sites()[site.index];
  const int64_t step = update - 1;
  NormState state;
  state.gate = gate_at(config_, norm.role, norm.layer, step);
  // Of a kind of token that no step has had, σ is that of the others.
  state.sigma = site.sigma > 0 ? site.sigma : site.special_sigma;
  if (!state.live() && state.sigma <= 0) {
    throw input_error("norm_removal." + std::string(name_of(norm.role, norm_role_names)) +
                      " (no token was trained on before its first removal, so no std is known). "
                      "Look at the data, or begin later");
  }
  if (!config_.special_std) return state;
  state.special_sigma = site.special_sigma > 0 ? site.special_sigma : site.sigma;
  const auto lasts = [&](int64_t start) { return start == 0 || step < start; };
  state.special_first = lasts(config_.bos_start);
  const bool values = norm.role == NormRole::attention_v;
  state.special_id = values && lasts(config_.eot_start) ? end_of_text_ : -1;
  return state;
}

void NormRemoval::set_states(int64_t update) {
  for (const Site& site : sites_) {
    const NormState& now = model_.norm_sites()[site.index].state;
    const NormState state = state_of(site, update);
    if (state != now || !state.same_special(now)) model_.set_norm_state(site.index, state);
  }
}

std::vector<RemovalEvent> NormRemoval::begin_step(int64_t step) {
  set_states(step + 1);
  tracks_ = std::any_of(sites_.begin(), sites_.end(),
                        [&](const Site& site) { return step < site.tracks_until; });
  model_.zero_norm_stds();
  std::vector<RemovalEvent> events = removal_schedule(config_, model_.config().layers);
  std::erase_if(events, [&](const RemovalEvent& event) { return event.step != step; });
  return events;
}

void NormRemoval::cancel_step(int64_t step) { set_states(step); }

void NormRemoval::add(const Batch& batch) {
  if (tracks_) model_.add_norm_stds(batch);
}

void NormRemoval::end_step(int64_t step, const TokenCounts& tokens) {
  if (!tracks_) return;
  const std::vector<NormStdSums> sums = model_.download_norm_stds();
  for (Site& site : sites_) {
    if (step > site.tracks_until) continue;
    const int64_t special = special_tokens(tokens, model_.norm_sites()[site.source].state);
    const NormStdSums& sum = sums[site.source];
    site.sigma = moved(site.sigma, site.momentum, sum.others, tokens.total - special);
    site.special_sigma = moved(site.special_sigma, site.momentum, sum.special, special);
  }
  set_states(step);
}

double NormRemoval::std_loss_scale(int64_t tokens) const {
  return tokens > 0 ? config_.auxiliary_loss_weight / static_cast<double>(tokens) : 0;
}

}  // namespace normlab
