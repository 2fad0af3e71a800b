#include "engine/config_removal.h"

#include <utility>

namespace normlab {
namespace {

constexpr int64_t most_steps = 1'000'000'000'000;

void read_phases(const Section& removal, NormRemovalConfig& config) {
  for (const auto& [role, name] : removable_role_names) {
    const Section phase = removal.section(name);
    if (!phase.is_given()) continue;
    RemovalPhase& to = config.phases[role];
    // The first update's std is what σ begins with.
    phase.require("start", "Write the updates before its first removal, 1 or more");
    phase.integer("start", to.start, 1, most_steps);
    if (role != NormRole::final) phase.integer("gap", to.gap, 0, most_steps);
    phase.number("momentum", to.momentum, from_0_below_1);
  }
  const bool shared = config.std == StdSharing::shared &&
                      config.phases.contains(NormRole::attention_qk) &&
                      config.phases.contains(NormRole::attention_v);
  const Section values = removal.section("attention_v");
  if (shared && values.has("momentum")) {
    throw values.error("momentum", "",
                       "norm_removal.std: shared has one σ for queries, keys and values, with the "
                       "momentum of attention_qk",
                       "Delete it, or write norm_removal: {std: separate}");
  }
}

void read_method(const Section& removal, NormRemovalConfig& config) {
  removal.choice("method", config.method, removal_method_names);
  switch (config.method) {
    case RemovalMethod::step:
      // The writer's 1 passes.
      removal.integer("taper_steps", config.taper_steps, 1, most_steps);
      if (config.taper_steps == 1) return;
      throw removal.error("taper_steps", "", "norm_removal.method: step removes at once",
                          "Delete it, or write norm_removal: {method: taper}");
    case RemovalMethod::taper:
      removal.require("taper_steps", "Write the updates over which a norm fades out");
      removal.integer("taper_steps", config.taper_steps, 1, most_steps);
      return;
  }
}

// The σ of special tokens, and when it ends.
void read_special(const Section& removal, NormRemovalConfig& config) {
  removal.boolean("special_std", config.special_std);
  for (const auto& [name, start] :
       {std::pair{"bos", &config.bos_start}, {"eot", &config.eot_start}}) {
    const Section phase = removal.section(name);
    if (!phase.is_given()) continue;
    phase.require("start", "Write the updates before it, 1 or more");
    phase.integer("start", *start, 1, most_steps);
    if (config.special_std) continue;
    throw phase.error("start", "", "no token has a std of its own",
                      "Delete it, or write norm_removal: {special_std: true}");
  }
}

// A group lies within one pass, wherever that begins.
void check_group(const Section& removal, const Config& config) {
  const int64_t group = config.norm_removal.auxiliary_group;
  const std::string value = std::to_string(group);
  if (config.batch.micro_batch % group != 0) {
    throw removal.error("auxiliary_group", value,
                        "batch.micro_batch = " + std::to_string(config.batch.micro_batch) +
                            " is not a multiple of it, and the sequences that share a target pass "
                            "together",
                        "Change one of the two");
  }
  const int64_t shards = config.parallel.shards;
  const bool divides = config.sequences_per_step() % (shards * group) == 0;
  if (config.parallel.reproducible && !divides) {
    throw removal.error("auxiliary_group", value,
                        "with parallel.reproducible the " +
                            std::to_string(config.sequences_per_step()) +
                            " sequences of a step must be a multiple of " + std::to_string(shards) +
                            " shards of such groups",
                        "Change one of them");
  }
}

void read_auxiliary_loss(const Section& removal, Config& config) {
  NormRemovalConfig& to = config.norm_removal;
  removal.number("auxiliary_loss_weight", to.auxiliary_loss_weight, not_negative);
  removal.number("auxiliary_target", to.auxiliary_target, not_negative);
  to.auxiliary_group = config.batch.micro_batch;
  removal.integer("auxiliary_group", to.auxiliary_group, 1, config.sequences_per_step());
  if (to.auxiliary_loss_weight > 0) return check_group(removal, config);
  if (to.auxiliary_target > 0) {
    throw removal.error("auxiliary_target", "",
                        "norm_removal.auxiliary_loss_weight is 0, so nothing is held to it",
                        "Delete it, or give the weight");
  }
}

}  // namespace

void read_norm_removal(const Section& removal, Config& config) {
  NormRemovalConfig& to = config.norm_removal;
  removal.choice("std", to.std, std_sharing_names);
  removal.choice("policy", to.policy, removal_policy_names, {"adaptive"});
  read_phases(removal, to);
  read_method(removal, to);
  read_special(removal, to);
  read_auxiliary_loss(removal, config);
  if (removal.is_given() && !to.is_given()) {
    throw removal.error("policy", name_of(to.policy, removal_policy_names),
                        "norm_removal names no norm to remove, and no auxiliary loss",
                        "Add mlp, attention_qk, attention_v or final: {start: …}, or delete it");
  }
}

}  // namespace normlab
