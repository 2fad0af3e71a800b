// What a run has done, done again; nothing of the run is changed.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/files.h"
#include "engine/log.h"
#include "engine/metrics.h"
#include "engine/nonfinite_watch.h"
#include "engine/training_steps.h"

namespace normlab {

// A run's directory, and changes of its configuration as on the command line ("run.device=cpu").
struct RunToReplay {
  std::string directory;
  std::vector<std::string> overrides;
};

// What config.yaml says. Throws an input Error where the directory is no run's.
Config config_of(const RunToReplay& run);

// So that nobody else changes the run meanwhile: the first rank holds it. (One in a directory that
// cannot be written to is nobody's to change.)
std::unique_ptr<DirectoryLock> hold(const RunToReplay& run, const Communicator& communicator);

// Of each checkpoint, the newest first, whether its checksums are right; said in the log.
struct InspectedCheckpoint {
  CheckpointDirectory::Found found;
  std::string damage;  // "": sound
};
std::vector<InspectedCheckpoint> inspect_checkpoints(const RunToReplay& run, Log& log);

// A run's model, optimizer and data as they were after some step, and its steps from there.
class Replay {
 public:
  // From a checkpoint, or from the run's beginning. Throws as a run does that starts or goes on.
  Replay(Config config, const std::optional<CheckpointDirectory::Found>& from, Log& log,
         Communicator& communicator);

  // Takes steps until so many are done, with progress in the log. Returns the first whose loss or
  // gradient norm has other bits than metrics.jsonl says, in words, or "".
  std::string take_until(int64_t step);
  // One more step; an Error of kind stopped where a signal asks for it.
  StepOutcome take();
  // How an outcome differs from the row of step number `step`, in words, or "".
  std::string difference(const StepOutcome& outcome, int64_t step) const;

  // Throws an input Error where a checkpoint is of another configuration or other data.
  void require_same_run(const CheckpointDirectory::Found& found) const;

  TrainingSteps& steps() { return *steps_; }
  NonfiniteWatch& watch() { return watch_; }
  const RunCorpus& corpus() const { return corpus_; }

 private:
  // Completes the configuration, as a run does that starts or goes on.
  RunCorpus complete(const std::optional<CheckpointDirectory::Found>& from);

  Config config_;
  Log& log_;
  std::map<int64_t, RecordedStep> recorded_;
  std::string starting_weights_;  // directory of model.from, where it begins there
  std::string configuration_hash_;
  RunCorpus corpus_;
  std::unique_ptr<Ops> ops_;
  NonfiniteWatch watch_;
  Attachment attachment_;
  std::unique_ptr<TrainingSteps> steps_;
};

struct ReplayedStep {
  double loss = 0;
  double gradient_norm = 0;
  bool finite = true;
  // The first number that was not finite, the verb that wrote it, and of which data it is; "".
  std::string finding;
};

// Takes step number `step` (from 1) again, after those between it and the checkpoint before. Throws
// an input Error where the run has no such step, and in a job of several ranks.
ReplayedStep replay_step(const RunToReplay& run, int64_t step, Log& log,
                         Communicator& communicator);

}  // namespace normlab
