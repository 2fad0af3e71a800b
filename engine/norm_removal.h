// NormRemoval: carries out the removal of a model's norms, and keeps the σ that replaces their std.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "data/token_stream.h"
#include "engine/removal_schedule.h"
#include "models/model.h"

namespace normlab {

// Tokens of a global batch that are no filling.
struct TokenCounts {
  int64_t total = 0;
  int64_t first = 0;         // of a sequence
  int64_t ends_of_text = 0;  // that are not first
  int64_t first_ends = 0;    // that are
};
TokenCounts count_tokens(const HostBatch& batch, int32_t end_of_text);

// Of each site that is to be removed σ is a running mean by step of the mean std over the tokens of
// the global batch; it is the first step's mean at first, and moves until the norm's removal (or
// the beginning of its taper); one σ for queries, keys and values moves until the last of both.
class NormRemoval {
 public:
  // A configuration that passed check_removal(), or an empty one, which does nothing.
  // end_of_text: the id that the auxiliary loss's target passes over, −1 where there is none.
  NormRemoval(Model& model, const NormRemovalConfig& config, int32_t end_of_text);

  // Goes on with the gates and σ of records() of a saved run.
  void restore(const std::vector<NormRecord>& norms);
  // Every site of the model with its gate, and σ as it stands, that of live norms too (0: not known
  // yet); empty where all are live and none is known.
  std::vector<NormRecord> records() const;

  // σ as it stands of each site that is to be removed, where it is known, by name: "mlp.0",
  // "final", "mlp.0.special" of tokens that have one of their own.
  std::map<std::string, double> stds() const;

  // Before the first pass of update `step` + 1: sets the gates. Returns what happens to norms here.
  std::vector<RemovalEvent> begin_step(int64_t step);
  // After forward of each pass: its stds count.
  void add(const Batch& batch);
  // Whether the stds of this update count.
  bool tracks() const { return tracks_; }
  // Of an update that was begun and came to nothing: gates as after `step` updates.
  void cancel_step(int64_t step);
  // After a successful update number `step`, whose global batch had so many tokens: σ moves.
  void end_step(int64_t step, const TokenCounts& tokens);
  // What the auxiliary loss of one token weighs, for StepState.std_loss_scale.
  double std_loss_scale(int64_t tokens) const;

 private:
  struct Site {
    size_t index = 0;   // in the model's sites
    size_t source = 0;  // the site whose std it follows: its own, or the one it shares σ with
    int64_t tracks_until = 0;  // updates after which σ stays
    double momentum = 0;
    double sigma = 0;          // 0: not known yet
    double special_sigma = 0;  // the same of tokens that have one of their own
  };
  Site site_of(size_t index) const;
  // Gates of update number `update`, and σ.
  void set_states(int64_t update);
  NormState state_of(const Site& site, int64_t update) const;

  Model& model_;
  NormRemovalConfig config_;
  int32_t end_of_text_;
  std::vector<Site> sites_;  // those to be removed
  bool tracks_ = false;      // whether any σ moves in this step
};

}  // namespace normlab
