// TrainingSteps: the steps of a run, one after the other. All that decides a run's numbers is here,
// and nothing that writes a file: what a run did can be done again.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/communicator.h"
#include "engine/config.h"
#include "engine/corpus.h"
#include "engine/norm_removal.h"
#include "engine/optimizer.h"
#include "engine/step_gradient.h"

namespace normlab {

// Something that happened to a norm before a step, and σ as it went into it.
struct NormEvent {
  RemovalEvent event;
  NormRecord norm;
};

struct StepOutcome {
  StepResult result;
  std::vector<NormEvent> events;
  std::optional<LayerDiagnostics> diagnostics;
  double learning_rate = 0;
  bool interrupted = false;  // nothing was changed
};

class TrainingSteps {
 public:
  // Of a configuration that its data and its weights have completed. All of these must outlive it;
  // every rank of the job makes one.
  TrainingSteps(const Config& config, const RunCorpus& corpus, Ops& ops,
                Communicator& communicator);
  ~TrainingSteps();

  // Where the steps begin: after those of a checkpoint; with the weights of a model's directory; or
  // with random ones.
  void begin_from(const CheckpointDirectory::Found& checkpoint);
  void begin_with_weights(const std::string& model_directory);
  void begin_at_random();

  // One more step. Where loss or gradient are not finite it changes no weight and does not count,
  // and the next one takes other data; where a stop is asked for, nothing has happened.
  StepOutcome take();

  // Norms included, as a checkpoint keeps it.
  TrainingState state() const;
  int64_t step() const { return state_.step; }  // completed updates
  int64_t data_position() const { return state_.data_position; }
  int64_t skipped_in_row() const { return state_.skipped_in_row; }

  Model& model() { return *model_; }
  Optimizer& optimizer() { return *optimizer_; }
  const NormRemoval& removal() const { return *removal_; }
  const TokenStream& stream() const { return *stream_; }

 private:
  StepState step_state(const HostBatch& batch) const;
  std::vector<NormEvent> with_norms(const std::vector<RemovalEvent>& events) const;

  const Config& config_;
  const RunCorpus& corpus_;
  Ops& ops_;
  std::unique_ptr<TokenStream> stream_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<NormRemoval> removal_;
  std::unique_ptr<StepGradient> gradient_;
  TrainingState state_;
};

}  // namespace normlab
