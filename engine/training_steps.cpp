#include "engine/training_steps.h"

#include <cmath>

#include "engine/schedule.h"
#include "engine/weights.h"

namespace normlab {

TrainingSteps::TrainingSteps(const Config& config, const RunCorpus& corpus, Ops& ops,
                             Communicator& communicator)
    : config_(config), corpus_(corpus), ops_(ops) {
  model_ = std::make_unique<Model>(ops_, config_.model, training_workload(config_));
  optimizer_ =
      std::make_unique<Optimizer>(*model_, config_.optimizer, communicator, config_.parallel);
  removal_ = std::make_unique<NormRemoval>(*model_, config_.norm_removal,
                                           corpus_.train.description().end_of_text);
  stream_ = std::make_unique<TokenStream>(corpus_.train, training_stream(config_));
  gradient_ = std::make_unique<StepGradient>(*model_, config_, communicator, *removal_);
}

TrainingSteps::~TrainingSteps() = default;

void TrainingSteps::begin_from(const CheckpointDirectory::Found& checkpoint) {
  CheckpointDirectory::load(checkpoint, *model_, *optimizer_);
  state_ = checkpoint.state;
  removal_->restore(state_.norms);
  stream_->restore({state_.data_position});
}

void TrainingSteps::begin_with_weights(const std::string& model_directory) {
  load_weights(*model_, model_directory, optimizer_->masters());
  optimizer_->keep_masters();
  removal_->restore(config_.model_from_norms);
}

void TrainingSteps::begin_at_random() {
  model_->initialize(static_cast<uint64_t>(config_.run.seed), optimizer_->masters());
  optimizer_->keep_masters();
}

TrainingState TrainingSteps::state() const {
  TrainingState state = state_;
  state.norms = removal_->records();
  return state;
}

StepState TrainingSteps::step_state(const HostBatch& batch) const {
  StepState state;
  state.seed = static_cast<uint64_t>(config_.run.seed);
  // Of the attempt, so that a step tried again after a skipped one has other random numbers.
  state.step = static_cast<uint64_t>(state_.data_position / config_.sequences_per_step());
  state.learning_rate =
      config_.optimizer.learning_rate * learning_rate_factor(config_.schedule, state_.step);
  const auto update = static_cast<double>(state_.step + 1);
  state.first_moment_correction = 1 - std::pow(config_.optimizer.beta1, update);
  state.second_moment_correction = 1 - std::pow(config_.optimizer.beta2, update);
  state.gradient_clip = config_.optimizer.gradient_clip;
  state.loss_scale = batch.target_count > 0 ? 1.0 / static_cast<double>(batch.target_count) : 0.0;
  state.std_loss_scale = removal_->std_loss_scale(batch.token_count);
  return state;
}

std::vector<NormEvent> TrainingSteps::with_norms(const std::vector<RemovalEvent>& events) const {
  std::vector<NormEvent> found;
  for (const RemovalEvent& event : events) {
    for (const NormRecord& norm : removal_->records()) {
      if (norm.role == event.role && norm.layer == event.layer) found.push_back({event, norm});
    }
  }
  return found;
}

StepOutcome TrainingSteps::take() {
  const HostBatch batch = stream_->next(config_.sequences_per_step());
  const StepState state = step_state(batch);
  const std::vector<RemovalEvent> events = removal_->begin_step(state_.step);
  std::optional<StepDiagnostics> diagnostics;
  const int64_t every = config_.diagnostics.every;
  if (every > 0 && (state_.step + 1) % every == 0) diagnostics.emplace(*model_, *optimizer_);
  ops_.zero_loss();
  StepOutcome outcome;
  if (!gradient_->compute(batch, state, diagnostics ? &*diagnostics : nullptr)) {
    stream_->restore({state_.data_position});
    removal_->cancel_step(state_.step);
    outcome.interrupted = true;
    return outcome;
  }
  optimizer_->step(gradient_->extent());
  outcome.result = ops_.download_step_result();
  outcome.learning_rate = state.learning_rate;
  if (diagnostics) outcome.diagnostics = diagnostics->end();
  state_.data_position = stream_->state().position;
  if (!outcome.result.finite) {
    removal_->cancel_step(state_.step);
    ++state_.skipped_in_row;
    return outcome;
  }
  state_.skipped_in_row = 0;
  outcome.events = with_norms(events);
  ++state_.step;
  removal_->end_step(state_.step, count_tokens(batch, corpus_.train.description().end_of_text));
  return outcome;
}

}  // namespace normlab
