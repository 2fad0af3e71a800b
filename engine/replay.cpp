#include "engine/replay.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "engine/device.h"
#include "engine/ranks.h"
#include "engine/resume.h"

namespace normlab {
namespace {

// "sequence 5 of the step (sequence 1,234 of the training data, document 88), token 17".
std::string place_of(const NonfiniteWatch::Finding& finding, const RunCorpus& corpus,
                     const TokenStream& stream, int64_t data_position) {
  if (finding.last_sequence - finding.first_sequence != 1) {
    return "sequences " + std::to_string(finding.first_sequence) + " to " +
           std::to_string(finding.last_sequence - 1) + " of the step";
  }
  const int64_t sequence = stream.sequence_at(data_position + finding.first_sequence);
  const int64_t token = std::max<int64_t>(finding.token, 0);
  return "sequence " + std::to_string(finding.first_sequence) + " of the step (number " +
         count_text(sequence) + " of the training data, document " +
         count_text(stream.document_of(sequence, token)) + ")" +
         (finding.token < 0 ? "" : ", token " + std::to_string(finding.token)) +
         (corpus.train.description().end_of_text < 0 ? "; where documents end is not known" : "");
}

std::string text_of(const NonfiniteWatch::Finding& finding, const std::string& place) {
  using Of = NonfiniteWatch::Finding::Of;
  const auto& [count, row, column, value] = finding.numbers;
  std::string text = finding.verb;
  if (!finding.parameter.empty()) {
    text += (finding.of == Of::gradient ? ", to the gradient of " : ", with ") + finding.parameter;
  } else if (!finding.after.empty()) {
    text += ", after " + finding.after;
  }
  char largest[32];
  std::snprintf(largest, sizeof(largest), "%.3g", finding.largest_input);
  return text + ", wrote " +
         (std::isnan(value) ? "nan"
          : value > 0       ? "inf"
                            : "-inf") +
         " at row " + std::to_string(row) + ", column " + std::to_string(column) + " of (" +
         std::to_string(finding.rows) + "," + std::to_string(finding.columns) + ") (" +
         count_text(count) + " of its numbers are not finite; what it read goes up to " + largest +
         "), of " + place;
}

}  // namespace

Config config_of(const RunToReplay& run) {
  const std::string path = run.directory + "/config.yaml";
  if (!std::filesystem::exists(path)) {
    throw input_error(run.directory + ": is no run directory (no config.yaml in it). Name one");
  }
  std::vector<std::string> overrides = run.overrides;
  overrides.push_back("run.directory=" + run.directory);
  return load_config(path, overrides);
}

std::unique_ptr<DirectoryLock> hold(const RunToReplay& run, const Communicator& communicator) {
  std::unique_ptr<DirectoryLock> held;
  const bool writable = access(run.directory.c_str(), W_OK) == 0;
  if (communicator.is_first() && writable) held = std::make_unique<DirectoryLock>(run.directory);
  return held;
}

std::vector<InspectedCheckpoint> inspect_checkpoints(const RunToReplay& run, Log& log) {
  std::vector<InspectedCheckpoint> checkpoints;
  for (const std::string& path : checkpoint_paths(run.directory)) {
    Inspection inspection = inspect_checkpoint(path);
    log.say(path + ": " + (inspection.damage.empty() ? "sound" : "damaged: " + inspection.damage));
    checkpoints.push_back({{path, std::move(inspection.state)}, std::move(inspection.damage)});
  }
  return checkpoints;
}

RunCorpus Replay::complete(const std::optional<CheckpointDirectory::Found>& from) {
  RunCorpus corpus = open_corpus(config_);
  resolve_data(config_, corpus.train.description());
  if (config_.model_from && !from) starting_weights_ = adopt_starting_model(config_, log_);
  if (!config_.model_from || !from) resolve_vocabulary(config_.model, corpus.vocabulary);
  configuration_hash_ = configuration_hash(config_);
  if (from) adopt_checkpoint(*from, config_, corpus);
  return corpus;
}

void Replay::require_same_run(const CheckpointDirectory::Found& found) const {
  check_same_run(found, configuration_hash_, data_identity(corpus_));
}

Replay::Replay(Config config, const std::optional<CheckpointDirectory::Found>& from, Log& log,
               Communicator& communicator)
    : config_(std::move(config)),
      log_(log),
      recorded_(recorded_steps(config_.run.directory)),
      corpus_(complete(from)),
      ops_(make_device(run_of_rank(config_.run, communicator.place()),
                       communicator.place().local_rank)),
      watch_(*ops_),
      attachment_(communicator, *ops_),
      steps_(std::make_unique<TrainingSteps>(config_, corpus_, watch_, communicator)) {
  if (from) {
    require_same_run(*from);
    const PrecisionChoice precision = resolve_device(config_.run).precision;
    for (const std::string& warning : resume_warnings(*from, precision)) log_.warn(warning);
    steps_->begin_from(*from);
  } else if (config_.model_from) {
    steps_->begin_with_weights(starting_weights_);
  } else {
    steps_->begin_at_random();
  }
}

StepOutcome Replay::take() {
  StepOutcome outcome = steps_->take();
  if (outcome.interrupted) throw Error(ErrorKind::stopped, "stopped; the run is as it was");
  return outcome;
}

std::string Replay::difference(const StepOutcome& outcome, int64_t step) const {
  const auto row = recorded_.find(step);
  if (row == recorded_.end())
    return "step " + std::to_string(step) + " has no row in metrics.jsonl";
  const auto& [loss, gradient_norm] = row->second;
  const auto differs = [&](const char* what, double was, double is) {
    char text[160];
    std::snprintf(text, sizeof(text), "step %lld: %s was %.17g, is %.17g",
                  static_cast<long long>(step), what, was, is);
    return std::string(text);
  };
  if (loss != outcome.result.loss) return differs("the loss", loss, outcome.result.loss);
  if (gradient_norm == outcome.result.gradient_norm) return "";
  return differs("the gradient norm", gradient_norm, outcome.result.gradient_norm);
}

std::string Replay::take_until(int64_t step) {
  const int64_t begin = steps_->step();
  std::string first;
  while (steps_->step() < step) {
    const StepOutcome outcome = take();
    if (!outcome.result.finite) {
      if (steps_->skipped_in_row() >= config_.guard.nonfinite_steps) {
        throw Error(ErrorKind::diverged, "step " + std::to_string(steps_->step() + 1) +
                                             " is not finite in " +
                                             std::to_string(steps_->skipped_in_row()) +
                                             " tries in a row, here too (--replay " +
                                             std::to_string(steps_->step() + 1) + " says why)");
      }
      continue;
    }
    if (first.empty()) first = difference(outcome, steps_->step());
    log_.progress("taking again step " + std::to_string(steps_->step()) + " of " +
                      std::to_string(begin + 1) + " to " + std::to_string(step) +
                      (first.empty() ? "" : "; " + first),
                  Log::Weight::passing);
  }
  return first;
}

ReplayedStep replay_step(const RunToReplay& run, int64_t step, Log& log,
                         Communicator& communicator) {
  if (communicator.ranks() > 1) {
    throw input_error(
        "--replay in a job of several ranks (each would see a part of the step). Use one rank; its "
        "numbers are theirs but for rounding");
  }
  Config config = config_of(run);
  if (step < 1 || step > config.schedule.stop_step) {
    throw input_error("--replay " + std::to_string(step) + " (the run's steps are 1 to " +
                      std::to_string(config.schedule.stop_step) + "). Name one of them");
  }
  const auto held = hold(run, communicator);
  std::optional<CheckpointDirectory::Found> from;
  for (const auto& [found, damage] : inspect_checkpoints(run, log)) {
    if (!from && damage.empty() && found.state.step < step) from = found;
  }
  log.say("from " + (from ? from->path : "the run's beginning") + " to step " +
          std::to_string(step));
  Replay replay(std::move(config), from, log, communicator);
  const std::string difference = replay.take_until(step - 1);
  if (!difference.empty()) log.warn("not as it was recorded: " + difference);
  ReplayedStep replayed;
  const int64_t data_position = replay.steps().data_position();
  replay.watch().look_at(replay.steps().model());
  const StepOutcome outcome = replay.take();
  replayed.loss = outcome.result.loss;
  replayed.gradient_norm = outcome.result.gradient_norm;
  replayed.finite = outcome.result.finite;
  if (const auto& finding = replay.watch().finding()) {
    replayed.finding = text_of(
        *finding, place_of(*finding, replay.corpus(), replay.steps().stream(), data_position));
  } else if (replayed.finite) {
    const std::string other = replay.difference(outcome, step);
    if (!other.empty()) log.warn("not as it was recorded: " + other);
  }
  return replayed;
}

}  // namespace normlab
