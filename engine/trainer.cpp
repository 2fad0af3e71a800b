#include "engine/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "data/mapped_files.h"
#include "engine/config_names.h"
#include "engine/device.h"
#include "engine/hash.h"
#include "engine/nonfinite.h"
#include "engine/ranks.h"
#include "engine/resume.h"
#include "engine/stop_request.h"

namespace normlab {
namespace {

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string fixed(double value, int digits) {
  if (std::isnan(value)) return "nan";  // whatever its sign
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

// Completes config.data by the data, config.model by model.from and by the data; returns the
// directory of model.from. A run that has been saved goes on with the model it has saved, and
// model.from need not be there any more.
std::string complete_config(Config& config, const RunCorpus& corpus, Log& log) {
  std::string starting_weights;
  resolve_data(config, corpus.train.description());
  if (config.model_from) {
    if (has_checkpoints(config.run.directory)) return "";
    starting_weights = adopt_starting_model(config, log);
  }
  resolve_vocabulary(config.model, corpus.vocabulary);
  check_removal(config, config.model_from_norms);
  return starting_weights;
}

// A line about data that takes long to read.
ReadProgress reading_progress(Log& log) {
  return [&log, begin = now_seconds()](int64_t bytes, int64_t total_bytes) {
    constexpr double kSoonSeconds = 2;
    if (now_seconds() - begin < kSoonSeconds) return;
    log.progress("reading the token set: " + bytes_text(bytes) + " of " + bytes_text(total_bytes),
                 Log::Weight::passing);
  };
}

}  // namespace

Trainer::Trainer(Config config, Start start, Log& log, Communicator& communicator)
    : config_(std::move(config)),
      log_(log),
      communicator_(communicator),
      ops_(make_device(run_of_rank(config_.run, communicator.place()),
                       communicator.place().local_rank)),
      corpus_(open_corpus(config_, reading_progress(log_))),
      starting_weights_(complete_config(config_, corpus_, log_)),
      directory_(config_, start, communicator.is_first() ? Holder::first_rank : Holder::other_rank),
      checkpoints_(directory_.path(), directory_.holder()) {
  log_.open(directory_.path() + "/log.txt");
  attachment_ = std::make_unique<Attachment>(communicator_, *ops_);
  begin_ledger(communicator_, directory_.path());
  const auto found = find_checkpoint();
  check_agreement(communicator_, hash_text(directory_.configuration_hash()), "the configuration");
  check_agreement(communicator_, data_identity(corpus_).corpus_hash, "the training data");
  check_agreement(communicator_, found ? static_cast<uint64_t>(found->state.step) : ~uint64_t{0},
                  "the newest checkpoint");
  steps_ = std::make_unique<TrainingSteps>(config_, corpus_, *ops_, communicator_);
  start_or_resume(found);
}

Trainer::~Trainer() = default;

std::optional<CheckpointDirectory::Found> Trainer::find_checkpoint() {
  std::vector<std::string> warnings;
  auto found = checkpoints_.newest_good(warnings);
  for (const std::string& warning : warnings) log_.warn(warning);
  if (found) {
    check_same_run(*found, directory_.configuration_hash(), data_identity(corpus_));
    adopt_checkpoint(*found, config_, corpus_);
  } else if (config_.model_from && starting_weights_.empty()) {
    throw Error(directory_.path() +
                ": its checkpoints were removed while the run started. Run the same command again");
  }
  return found;
}

void Trainer::start_or_resume(const std::optional<CheckpointDirectory::Found>& found) {
  if (found) {
    steps_->begin_from(*found);
    saved_step_ = steps_->step();
  } else if (config_.model_from) {
    steps_->begin_with_weights(starting_weights_);
  } else {
    steps_->begin_at_random();
  }
  directory_.keep();
  std::vector<std::string> warnings;
  tokenizer_ = read_tokenizer(corpus_.tokenizer, warnings);
  for (const std::string& warning : warnings) log_.warn(warning);
  first_step_ = steps_->step();
  if (communicator_.is_first()) {
    metrics_ = std::make_unique<Metrics>(directory_.path(), first_step_, steps_->data_position());
  }
  say_what_runs();
  if (!found) return;
  log_.say("going on from " + found->path);
  const PrecisionChoice precision = resolve_device(config_.run).precision;
  for (const std::string& warning : resume_warnings(*found, precision)) log_.warn(warning);
  if (metrics_) metrics_->write_event(first_step_, "resume", found->path);
}

void Trainer::say_what_runs() const {
  const PrecisionChoice precision = resolve_device(config_.run).precision;
  log_.say("device: " + ops_->device_name() +
           "; precision: " + name_of(precision, precision_names) +
           "; parameters: " + count_text(parameter_count(config_.model)) +
           "; training tokens: " + count_text(corpus_.train.size()) + "; " +
           count_text(config_.batch.tokens_per_step) + " tokens a step");
  if (communicator_.ranks() > 1) log_.say(ranks_text(communicator_, config_.run));
  for (const std::string& warning : removal_warnings(config_)) log_.warn(warning);
  for (const std::string& warning : prompt_warnings(config_, corpus_)) log_.warn(warning);
}

void Trainer::record_removals(const StepOutcome& step) {
  for (const auto& [event, norm] : step.events) {
    if (metrics_) metrics_->write_removal(event, norm.state.sigma);
    log_.say("step " + std::to_string(event.step) + ": " + place_of(norm) +
             what_happens(event.kind) + ", std " + fixed(norm.state.sigma, 4));
  }
}

void Trainer::report_skipped(const StepOutcome& step) {
  const int64_t done = steps_->step(), in_row = steps_->skipped_in_row();
  const std::string text =
      "step " + std::to_string(done + 1) + " skipped: loss " + fixed(step.result.loss, 4) +
      ", gradient norm " + fixed(step.result.gradient_norm, 4) + " (" + std::to_string(in_row) +
      " in a row); first not finite: " + first_nonfinite(steps_->model(), communicator_);
  log_.warn(text);
  if (metrics_) metrics_->write_skipped_step(done + 1, steps_->data_position(), text);
  if (in_row < config_.guard.nonfinite_steps) return;
  throw Error(
      ErrorKind::diverged,
      "the loss or its gradient was not finite in " + std::to_string(in_row) +
          " steps in a row after step " + std::to_string(done) + ". train --replay " +
          std::to_string(done + 1) + " " + directory_.path() +
          " says where that began. Lower optimizer.learning_rate or set optimizer.gradient_clip: "
          "1.0, in another run.directory" +
          (saved_step_ > 0 ? "; model.from=" + directory_.path() +
                                 " begins with the weights of step " + std::to_string(saved_step_)
                           : std::string()));
}

void Trainer::show_progress(const StepOutcome& step, bool important) {
  const auto done = static_cast<double>(steps_->step() - first_step_);
  const double left =
      seconds_ / done * static_cast<double>(config_.schedule.stop_step - steps_->step());
  const double speed = done * static_cast<double>(config_.batch.tokens_per_step) / seconds_;
  std::string line = "step " + std::to_string(steps_->step()) + "/" +
                     std::to_string(config_.schedule.stop_step) + "  loss " +
                     fixed(step.result.loss, 4) + "  gradient norm " +
                     fixed(step.result.gradient_norm, 2) + "  " + count_text(std::llround(speed)) +
                     " tokens/s  ETA " + duration_text(left);
  if (important) {
    for (const auto& [name, loss] : validation_loss_) line += "  " + name + " " + fixed(loss, 4);
    for (const auto& [name, value] : ppl_cod_) line += "  " + name + " ppl_cod " + fixed(value, 2);
  }
  log_.progress(line, important ? Log::Weight::important : Log::Weight::passing);
}

bool Trainer::evaluate_now() {
  EvaluationOptions options;
  options.tokens_per_sequence = config_.data.sequence_length;
  options.batch = config_.batch.micro_batch;
  options.most_tokens = config_.evaluation.tokens;
  options.mask_eot_targets = config_.data.mask_eot_targets;
  options.reference_batch = config_.evaluation.reference_batch;
  // Ranks stop together, between steps.
  if (communicator_.ranks() == 1) options.should_stop = stop_requested;
  std::map<std::string, double> losses, ppl_cod;
  for (const auto& [name, tokens] : corpus_.validation) {
    options.packing = packing_of(tokens.description(), training_stream(config_).packing);
    const EvaluationResult result = evaluate(steps_->model(), tokens, options);
    if (result.stopped) {
      validation_loss_.clear();
      ppl_cod_.clear();
      return false;
    }
    losses[name] = result.loss;
    if (result.reference_perplexity) ppl_cod[name] = *result.reference_perplexity;
    if (evaluation_described_) continue;
    log_.say("evaluation: " + count_text(result.tokens) + " tokens of " + name +
             " are scored (it has " + count_text(tokens.size()) + ")");
  }
  evaluation_described_ = true;
  validation_loss_ = losses;
  ppl_cod_ = ppl_cod;
  return true;
}

void Trainer::save() {
  if (saved_step_ == steps_->step()) return;
  require_unchanged_data();
  check_replicas(steps_->model(), communicator_, steps_->step());
  communicator_.ledger().set_work("saving step " + std::to_string(steps_->step()));
  if (metrics_) metrics_->sync();  // first: no checkpoint without the rows that led to it
  TrainingState state = steps_->state();
  state.data = data_identity(corpus_);
  state.configuration_hash = directory_.configuration_hash();
  const DataConfig& data = config_.data;
  ModelDescription description{config_.model,
                               corpus_.tokenizer,
                               config_.batch.micro_batch,
                               data.sequence_length,
                               data.packing.value(),
                               data.mask_eot_targets,
                               resolve_device(config_.run).precision};
  description.norms = norms_not_live(steps_->model());
  use_tokenizer(description, tokenizer_);
  checkpoints_.save(steps_->model(), steps_->optimizer(), state, description,
                    config_.checkpoint.keep);
  saved_step_ = steps_->step();
}

void Trainer::require_unchanged_data() const {
  const std::vector<std::string> changed = files_changed_underneath();
  if (changed.empty()) return;
  throw input_error(changed.front() +
                    ": was changed while the run reads it (from some step on it may have learnt "
                    "what was not there when it began). Restore it and run the same command "
                    "again, which goes on from the checkpoint before");
}

bool Trainer::evaluation_due() const {
  if (corpus_.validation.empty() || steps_->step() == 0) return false;
  const int64_t every = config_.evaluation.every;
  return steps_->step() == config_.schedule.stop_step || (every > 0 && steps_->step() % every == 0);
}

bool Trainer::make_up_for_evaluation() {
  if (!communicator_.any(evaluation_due() && metrics_ && !metrics_->evaluated())) return true;
  if (!evaluate_now()) return false;
  if (!metrics_) return true;
  metrics_->write_validation(
      {.step = steps_->step(), .validation_loss = validation_loss_, .ppl_cod = ppl_cod_});
  return true;
}

void Trainer::after_step(const StepOutcome& step, double seconds) {
  const int64_t every = config_.checkpoint.every;
  const bool last = steps_->step() == config_.schedule.stop_step;
  const bool evaluated = evaluation_due() && evaluate_now();
  MetricsRow row{.step = steps_->step(),
                 .tokens = steps_->step() * config_.batch.tokens_per_step,
                 .loss = step.result.loss,
                 .learning_rate = step.learning_rate,
                 .gradient_norm = step.result.gradient_norm,
                 .tokens_per_second = static_cast<double>(config_.batch.tokens_per_step) / seconds,
                 .seconds = seconds_,
                 .validation_loss = {},
                 .auxiliary_loss = {},
                 .norm_std = steps_->removal().stds(),
                 .diagnostics = step.diagnostics};
  if (evaluated) {
    row.validation_loss = validation_loss_;
    row.ppl_cod = ppl_cod_;
  }
  if (config_.norm_removal.auxiliary_loss_weight > 0) row.auxiliary_loss = step.result.std_loss;
  if (metrics_) metrics_->write(row);
  show_progress(step, evaluated || last);
  if (last || (every > 0 && steps_->step() % every == 0)) save();
}

bool Trainer::stop_agreed() {
  return communicator_.ranks() == 1 ? stop_requested() : communicator_.any(stop_requested());
}

Outcome Trainer::stop() {
  save();
  const std::string signal = stop_requested() ? stop_signal_name() : "a request to another rank";
  log_.say("stopped by " + signal + " at step " + std::to_string(steps_->step()) +
           ", saved; run the same command again to go on");
  return Outcome::stopped;
}

Outcome Trainer::run() {
  try {
    const Outcome outcome = run_to_end();
    communicator_.ledger().close();
    return outcome;
  } catch (const std::exception& error) {
    log_.note(std::string("ended by an error: ") + error.what());  // main() says it on stderr
    throw;
  }
}

Outcome Trainer::run_to_end() {
  if (steps_->step() >= config_.schedule.stop_step) {
    log_.say("already at schedule.stop_step = " + std::to_string(config_.schedule.stop_step) +
             ": nothing to train");
  }
  if (!make_up_for_evaluation()) return stop();
  while (steps_->step() < config_.schedule.stop_step) {
    const double begin = now_seconds();
    communicator_.ledger().set_work("step " + std::to_string(steps_->step() + 1));
    if (stop_agreed()) return stop();
    const StepOutcome step = steps_->take();
    if (step.interrupted) return stop();
    const double seconds = now_seconds() - begin;
    seconds_ += seconds;
    if (!step.result.finite) {
      report_skipped(step);
      continue;
    }
    record_removals(step);
    after_step(step, seconds);
  }
  save();
  if (communicator_.is_first()) {
    checkpoints_.verify_saved(steps_->step());
    checkpoints_.remove_all_but(config_.checkpoint.keep, steps_->step());
  }
  if (validation_loss_.empty() && !corpus_.validation.empty() && !evaluate_now()) return stop();
  std::string line = "finished at step " + std::to_string(steps_->step());
  for (const auto& [name, loss] : validation_loss_) line += ", " + name + " loss " + fixed(loss, 4);
  if (corpus_.known_cross_entropy > 0) {
    line += " nats per token (a perfect model of this corpus: " +
            fixed(corpus_.known_cross_entropy, 4) + ")";
  }
  log_.say(line);
  return Outcome::finished;
}

}  // namespace normlab
