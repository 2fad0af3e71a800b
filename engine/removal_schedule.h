// When norms are removed: a pure function of the configuration.
#pragma once

#include <string>
#include <vector>

#include "engine/config_names.h"
#include "engine/norm_states.h"

namespace normlab {

enum class RemovalEventKind {
  taper,   // a gate begins to fall
  remove,  // it falls to 0: the norm is frozen
  eot,     // ends of text share the σ of other tokens
  bos,     // first tokens do
};

inline constexpr std::array<ChoiceName<RemovalEventKind>, 4> removal_event_names = {
    {{RemovalEventKind::taper, "taper"},
     {RemovalEventKind::remove, "remove"},
     {RemovalEventKind::eot, "eot"},
     {RemovalEventKind::bos, "bos"}}};

// "At step s": after s updates, before the forward pass of update s + 1.
struct RemovalEvent {
  int64_t step = 0;
  RemovalEventKind kind = RemovalEventKind::remove;
  NormRole role = NormRole::mlp;
  int64_t layer = -1;  // −1: the final norm
};

// Every event of a removal, by step, and within one in the order mlp, attention, final, and of
// layers.
std::vector<RemovalEvent> removal_schedule(const NormRemovalConfig& config, int64_t layers);
// The updates before the first one whose gate is below 1.
int64_t removal_step(const NormRemovalConfig& config, NormRole role, int64_t layer);
// The gate of a norm in update `step` + 1: 1 before its removal, then half a cosine over
// taper_steps updates, 0 from the last of them on.
double gate_at(const NormRemovalConfig& config, NormRole role, int64_t layer, int64_t step);

// Throws an input Error where a removal cannot be carried out on the run's model: norms that it
// does not have or that are removed already (`norms`: those not live at its beginning), a last
// step that comes too late.
void check_removal(const Config& config, const std::vector<NormRecord>& norms);
// What is allowed and probably not meant: phases out of the paper's order, norms that
// schedule.stop_step leaves live.
std::vector<std::string> removal_warnings(const Config& config);

// " is removed", to follow a norm's name.
std::string what_happens(RemovalEventKind kind);

}  // namespace normlab
