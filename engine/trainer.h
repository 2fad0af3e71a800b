// Trainer: one run, from its configuration to its last checkpoint.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/communicator.h"
#include "engine/config.h"
#include "engine/corpus.h"
#include "engine/log.h"
#include "engine/metrics.h"
#include "engine/model_files.h"
#include "engine/run_directory.h"
#include "engine/training_steps.h"

namespace normlab {

enum class Outcome {
  finished,  // schedule.stop_step reached, saved and verified
  stopped,   // on request, saved
};

class Trainer {
 public:
  // Locks the run directory, opens the data, makes the model, and loads the newest good checkpoint
  // or initialises. model.vocabulary may be 0: then the data decide. Throws Error. Every rank of
  // the job makes one; the first writes what there is to write.
  Trainer(Config config, Start start, Log& log, Communicator& communicator);
  ~Trainer();

  Outcome run();
  // Of the last evaluation, by set.
  const std::map<std::string, double>& validation_loss() const { return validation_loss_; }

 private:
  // The checkpoint to go on from, after all checks that it is this run's; completes the
  // configuration's model by it. None for a new start.
  std::optional<CheckpointDirectory::Found> find_checkpoint();
  void start_or_resume(const std::optional<CheckpointDirectory::Found>& found);
  void say_what_runs() const;
  void after_step(const StepOutcome& step, double seconds);
  bool evaluation_due() const;
  bool evaluate_now();  // false where a stop was asked for
  // The evaluation of the step that the run goes on from, where a stop cut it short.
  bool make_up_for_evaluation();
  Outcome run_to_end();
  bool stop_agreed();  // among the ranks
  Outcome stop();
  // Nothing is saved that came from data which changed under the run.
  void require_unchanged_data() const;
  void save();
  void report_skipped(const StepOutcome& step);
  void record_removals(const StepOutcome& step);
  void show_progress(const StepOutcome& step, bool important);

  Config config_;
  Log& log_;
  Communicator& communicator_;
  std::unique_ptr<Ops> ops_;
  RunCorpus corpus_;
  std::string starting_weights_;  // directory of model.from, for a new start
  // After all that the input can be wrong in: a start that fails leaves nothing behind.
  RunDirectory directory_;
  CheckpointDirectory checkpoints_;
  std::unique_ptr<Attachment> attachment_;
  std::unique_ptr<TrainingSteps> steps_;
  std::unique_ptr<Metrics> metrics_;  // of the first rank

  TokenizerFiles tokenizer_;  // for the checkpoints
  int64_t saved_step_ = -1;
  int64_t first_step_ = 0;  // of this process
  double seconds_ = 0;      // of training in this process
  std::map<std::string, double> validation_loss_;
  std::map<std::string, double> ppl_cod_;
  bool evaluation_described_ = false;
};

}  // namespace normlab
