// The removal of norms: which are removed when, and the σ that takes the place of their std.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/config.h"
#include "engine/norm_states.h"

namespace normlab {

enum class RemovalEventKind {
  taper,   // a gate begins to fall
  remove,  // it has fallen: the norm is frozen
};

// "At step s": after s updates, before the forward pass of update s + 1.
struct RemovalEvent {
  int64_t step = 0;
  RemovalEventKind kind = RemovalEventKind::remove;
  NormRole role = NormRole::mlp;
  int64_t layer = -1;  // −1: the final norm
};

// Every event of a removal, by step, and within one in the order mlp, attention, final, and of
// layers. Pure.
std::vector<RemovalEvent> removal_schedule(const NormRemovalConfig& config, int64_t layers);
// The gate of a norm in update `step` + 1: 1 before its removal, then a cosine over taper_steps
// updates, 0 from the last of them on. Pure.
double gate_at(const NormRemovalConfig& config, NormRole role, int64_t layer, int64_t step);

// Carries out a removal on a model. Of each site that is to be removed σ is a running mean by step
// of the mean std over the tokens of the global batch; it is the first step's mean at first, and
// moves until the norm's removal (or the beginning of its taper); one σ for queries, keys and
// values moves until the last of both.
class NormRemoval {
 public:
  // Throws an input Error where the model has no such norms, or they are removed already.
  // end_of_text: the id that the auxiliary loss's target passes over, −1 where there is none.
  NormRemoval(Model& model, const NormRemovalConfig& config, int32_t end_of_text);

  // Goes on with the σ of a saved run.
  void restore(const std::vector<NormRecord>& norms);
  // Every site of the model: its gate and σ as they stand, the σ of live norms too.
  std::vector<NormRecord> records() const;

  // Before the first pass of update `step` + 1: gates as they are to be. Returns what happens to
  // norms there.
  std::vector<RemovalEvent> begin_step(int64_t step);
  // After forward of each pass: its stds count.
  void add(const Batch& batch);
  // After a successful update number `step`, whose global batch had so many tokens that are no
  // filling: σ moves.
  void end_step(int64_t step, int64_t tokens);
  // The weight of the auxiliary loss of one token, for StepState.std_loss_scale.
  double std_loss_scale(int64_t tokens) const;

 private:
  struct Site {
    size_t index = 0;          // in the model's sites
    int64_t tracks_until = 0;  // updates after which σ stays
    double momentum = 0;
    double sigma = 0;  // 0: not known yet
  };

  Model& model_;
  NormRemovalConfig config_;
  std::vector<Site> sites_;  // those to be removed
};

}  // namespace normlab
