#include "engine/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "engine/config_names.h"
#include "engine/device.h"
#include "engine/resume.h"
#include "engine/schedule.h"
#include "engine/stop_request.h"
#include "engine/weights.h"

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
    std::vector<std::string> warnings;
    starting_weights = adopt_model(config, warnings);
    for (const std::string& warning : warnings) log.warn(warning);
  }
  resolve_vocabulary(config.model, corpus.vocabulary);
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

int gradient_tree_levels(int64_t shards) {
  int levels = 0;
  while ((int64_t{1} << levels) < shards) ++levels;
  return levels;
}

Trainer::Trainer(Config config, Start start, Log& log)
    : config_(std::move(config)),
      log_(log),
      communicator_(make_local_communicator()),
      ops_(make_device(config_.run)),
      corpus_(open_corpus(config_, reading_progress(log_))),
      starting_weights_(complete_config(config_, corpus_, log_)),
      directory_(config_, start),
      checkpoints_(directory_.path()) {
  log_.open(directory_.path() + "/log.txt");
  const auto found = find_checkpoint();
  make_model();
  start_or_resume(found);
}

Trainer::~Trainer() = default;

int64_t Trainer::shards() const {
  return config_.parallel.reproducible ? config_.parallel.shards : communicator_->ranks();
}

// Shards are contiguous parts of the global batch; their sizes differ by one sequence at most.
int64_t Trainer::shard_begin(int64_t shard) const {
  return part_of_step(config_.sequences_per_step(), shard, shards()).first;
}

int64_t Trainer::passes_per_step() const {
  return normlab::passes_per_step(config_.sequences_per_step(), shards(),
                                  config_.batch.micro_batch);
}

void Trainer::make_model() {
  const Workload workload{config_.batch.micro_batch, config_.data.sequence_length,
                          Purpose::training};
  model_ = std::make_unique<Model>(*ops_, config_.model, workload);
  optimizer_ = std::make_unique<Optimizer>(*model_, config_.optimizer);
  uploader_ = std::make_unique<BatchUploader>(*ops_, workload.micro_batch, workload.tokens);
  stream_ = std::make_unique<TokenStream>(corpus_.train, training_stream(config_));
  const int levels = gradient_tree_levels(shards());
  const int64_t elements = model_->values().elements();
  tree_.push_back(model_->gradients());
  if (levels == 0) return;
  tree_memory_ = ops_->allocate(levels * elements * size_of(ops_->gradient_type()));
  const Tensor all(tree_memory_.data(), ops_->gradient_type(), {1, levels * elements});
  for (int level = 0; level < levels; ++level) {
    tree_.push_back(all.column_slice(level * elements, elements));
  }
}

std::optional<CheckpointDirectory::Found> Trainer::find_checkpoint() {
  std::vector<std::string> warnings;
  auto found = checkpoints_.newest_good(warnings);
  for (const std::string& warning : warnings) log_.warn(warning);
  if (found) {
    check_same_run(*found, directory_.configuration_hash(), data_identity(corpus_));
    if (!config_.model_from) return found;
    adopt_model_of(found->path, config_);
    resolve_vocabulary(config_.model, corpus_.vocabulary);
  } else if (config_.model_from && starting_weights_.empty()) {
    throw Error(directory_.path() +
                ": its checkpoints were removed while the run started. Run the same command again");
  }
  return found;
}

void Trainer::start_or_resume(const std::optional<CheckpointDirectory::Found>& found) {
  if (found) {
    CheckpointDirectory::load(*found, *model_, *optimizer_);
    state_ = found->state;
    saved_step_ = state_.step;
    stream_->restore({state_.data_position});
  } else if (config_.model_from) {
    load_weights(*model_, starting_weights_, optimizer_->masters());
  } else {
    model_->initialize(static_cast<uint64_t>(config_.run.seed), optimizer_->masters());
  }
  directory_.keep();
  std::vector<std::string> warnings;
  tokenizer_ = read_tokenizer(corpus_.tokenizer, warnings);
  for (const std::string& warning : warnings) log_.warn(warning);
  state_.data = data_identity(corpus_);
  first_step_ = state_.step;
  metrics_ = std::make_unique<Metrics>(directory_.path(), state_.step, state_.data_position);
  const PrecisionChoice precision = resolve_device(config_.run).precision;
  log_.say("device: " + ops_->device_name() +
           "; precision: " + name_of(precision, precision_names) +
           "; parameters: " + count_text(parameter_count(config_.model)) +
           "; training tokens: " + count_text(corpus_.train.size()) + "; " +
           count_text(config_.batch.tokens_per_step) + " tokens a step");
  if (!found) return;
  log_.say("going on from " + found->path);
  for (const std::string& warning : resume_warnings(*found, precision)) log_.warn(warning);
  metrics_->write_event(state_.step, "resume", found->path);
}

StepState Trainer::step_state(int64_t target_count) const {
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
  state.loss_scale = target_count > 0 ? 1.0 / static_cast<double>(target_count) : 0.0;
  return state;
}

bool Trainer::accumulate_shard(const HostBatch& batch, int64_t first, int64_t last,
                               StepState& state) {
  for (const auto [sequence, end] : passes_of({first, last}, config_.batch.micro_batch)) {
    if (stop_requested()) return false;
    const int64_t count = end - sequence;
    state.first_sequence = sequence;
    if (config_.optimizer.loss_average == LossAverage::micro_batch) {
      const auto begin = batch.targets.begin() + sequence * batch.tokens_per_sequence;
      const auto scored = std::count_if(begin, begin + count * batch.tokens_per_sequence,
                                        [](int32_t target) { return target >= 0; });
      state.loss_scale = scored > 0 ? 1.0 / static_cast<double>(scored * passes_per_step()) : 0.0;
    }
    ops_->set_step_state(state);
    const Batch device_batch = uploader_->upload(batch, sequence, count);
    model_->forward(device_batch, Pass::training);
    // One shard a rank: a bucket of the last pass is summed over ranks while earlier layers still
    // run. With several, the tree comes first.
    const bool complete = !config_.parallel.reproducible && end == last;
    model_->backward(device_batch,
                     complete ? BucketDone([this](int bucket) { reduce(bucket); }) : BucketDone());
  }
  return true;
}

void Trainer::reduce(int number) {
  const Bucket& bucket = model_->buckets()[static_cast<size_t>(number)];
  communicator_->sum(*ops_,
                     model_->gradients().column_slice(bucket.begin, bucket.end - bucket.begin), {});
}

bool Trainer::accumulate(const HostBatch& batch, int64_t first, int64_t last, size_t buffer,
                         StepState& state) {
  if (last - first == 1) {
    ops_->zero(tree_[buffer]);
    model_->set_gradients(tree_[buffer]);
    return accumulate_shard(batch, shard_begin(first), shard_begin(last), state);
  }
  const int64_t middle = first + (last - first) / 2;
  if (!accumulate(batch, first, middle, buffer, state)) return false;
  if (!accumulate(batch, middle, last, buffer + 1, state)) return false;
  ops_->add(tree_[buffer], tree_[buffer], tree_[buffer + 1]);
  return true;
}

Trainer::StepOutcome Trainer::train_step() {
  const HostBatch batch = stream_->next(config_.sequences_per_step());
  StepState state = step_state(batch.target_count);
  ops_->zero_loss();
  // This rank's part of the shards.
  const auto [first, last] = part_of_step(shards(), communicator_->rank(), communicator_->ranks());
  if (!accumulate(batch, first, last, 0, state)) {
    stream_->restore({state_.data_position});
    return {{}, state.learning_rate, true};
  }
  model_->set_gradients(tree_[0]);
  if (config_.parallel.reproducible) communicator_->sum(*ops_, model_->gradients(), {});
  optimizer_->step();
  return {ops_->download_step_result(), state.learning_rate, false};
}

void Trainer::skip_step(const StepOutcome& step) {
  ++state_.skipped_in_row;
  const std::string text = "step " + std::to_string(state_.step + 1) + " skipped: loss " +
                           fixed(step.result.loss, 4) + ", gradient norm " +
                           fixed(step.result.gradient_norm, 4) + " (" +
                           std::to_string(state_.skipped_in_row) + " in a row)";
  log_.warn(text);
  metrics_->write_skipped_step(state_.step + 1, state_.data_position, text);
  if (state_.skipped_in_row < config_.guard.nonfinite_steps) return;
  throw Error(
      ErrorKind::diverged,
      "the loss or its gradient was not finite in " + std::to_string(state_.skipped_in_row) +
          " steps in a row after step " + std::to_string(state_.step) +
          ". Lower optimizer.learning_rate or set optimizer.gradient_clip: 1.0, in another "
          "run.directory" +
          (saved_step_ > 0 ? "; model.from=" + directory_.path() +
                                 " begins with the weights of step " + std::to_string(saved_step_)
                           : std::string()));
}

void Trainer::show_progress(const StepOutcome& step, bool important) {
  const auto done = static_cast<double>(state_.step - first_step_);
  const double left =
      seconds_ / done * static_cast<double>(config_.schedule.stop_step - state_.step);
  const double speed = done * static_cast<double>(config_.batch.tokens_per_step) / seconds_;
  std::string line = "step " + std::to_string(state_.step) + "/" +
                     std::to_string(config_.schedule.stop_step) + "  loss " +
                     fixed(step.result.loss, 4) + "  gradient norm " +
                     fixed(step.result.gradient_norm, 2) + "  " + count_text(std::llround(speed)) +
                     " tokens/s  ETA " + duration_text(left);
  if (important) {
    for (const auto& [name, loss] : validation_loss_) line += "  " + name + " " + fixed(loss, 4);
  }
  log_.progress(line, important ? Log::Weight::important : Log::Weight::passing);
}

bool Trainer::evaluate_now() {
  EvaluationOptions options;
  options.tokens_per_sequence = config_.data.sequence_length;
  options.batch = config_.batch.micro_batch;
  options.most_tokens = config_.evaluation.tokens;
  options.mask_eot_targets = config_.data.mask_eot_targets;
  options.should_stop = stop_requested;
  std::map<std::string, double> losses;
  for (const auto& [name, tokens] : corpus_.validation) {
    options.packing = packing_of(tokens.description(), training_stream(config_).packing);
    const EvaluationResult result = evaluate(*model_, tokens, options);
    if (result.stopped) {
      validation_loss_.clear();
      return false;
    }
    losses[name] = result.loss;
    if (evaluation_described_) continue;
    log_.say("evaluation: " + count_text(result.tokens) + " tokens of " + name +
             " are scored (it has " + count_text(tokens.size()) + ")");
  }
  evaluation_described_ = true;
  validation_loss_ = losses;
  return true;
}

void Trainer::save() {
  if (saved_step_ == state_.step) return;
  metrics_->sync();  // first: no checkpoint without the rows that led to it
  state_.configuration_hash = directory_.configuration_hash();
  const DataConfig& data = config_.data;
  ModelDescription description{config_.model,
                               corpus_.tokenizer,
                               config_.batch.micro_batch,
                               data.sequence_length,
                               data.packing.value(),
                               data.mask_eot_targets,
                               resolve_device(config_.run).precision};
  use_tokenizer(description, tokenizer_);
  checkpoints_.save(*model_, *optimizer_, state_, description, config_.checkpoint.keep);
  saved_step_ = state_.step;
}

bool Trainer::evaluation_due() const {
  if (corpus_.validation.empty() || state_.step == 0) return false;
  const int64_t every = config_.evaluation.every;
  return state_.step == config_.schedule.stop_step || (every > 0 && state_.step % every == 0);
}

bool Trainer::make_up_for_evaluation() {
  if (!evaluation_due() || metrics_->evaluated()) return true;
  if (!evaluate_now()) return false;
  metrics_->write_validation(state_.step, validation_loss_);
  return true;
}

void Trainer::after_step(const StepOutcome& step, double seconds) {
  const int64_t every = config_.checkpoint.every;
  const bool last = state_.step == config_.schedule.stop_step;
  const bool evaluated = evaluation_due() && evaluate_now();
  MetricsRow row{.step = state_.step,
                 .tokens = state_.step * config_.batch.tokens_per_step,
                 .loss = step.result.loss,
                 .learning_rate = step.learning_rate,
                 .gradient_norm = step.result.gradient_norm,
                 .tokens_per_second = static_cast<double>(config_.batch.tokens_per_step) / seconds,
                 .seconds = seconds_,
                 .validation_loss = {}};
  if (evaluated) row.validation_loss = validation_loss_;
  metrics_->write(row);
  show_progress(step, evaluated || last);
  if (last || (every > 0 && state_.step % every == 0)) save();
}

Outcome Trainer::stop() {
  save();
  log_.say("stopped by " + stop_signal_name() + " at step " + std::to_string(state_.step) +
           ", saved; run the same command again to go on");
  return Outcome::stopped;
}

Outcome Trainer::run() {
  try {
    return run_to_end();
  } catch (const std::exception& error) {
    log_.note(std::string("ended by an error: ") + error.what());  // main() says it on stderr
    throw;
  }
}

Outcome Trainer::run_to_end() {
  if (state_.step >= config_.schedule.stop_step) {
    log_.say("already at schedule.stop_step = " + std::to_string(config_.schedule.stop_step) +
             ": nothing to train");
  }
  if (!make_up_for_evaluation()) return stop();
  while (state_.step < config_.schedule.stop_step) {
    const double begin = now_seconds();
    const StepOutcome step = stop_requested() ? StepOutcome{{}, 0, true} : train_step();
    if (step.interrupted) return stop();
    const double seconds = now_seconds() - begin;
    seconds_ += seconds;
    state_.data_position = stream_->state().position;
    if (!step.result.finite) {
      skip_step(step);
      continue;
    }
    state_.skipped_in_row = 0;
    ++state_.step;
    after_step(step, seconds);
  }
  save();
  checkpoints_.verify_saved(state_.step);
  if (validation_loss_.empty() && !corpus_.validation.empty() && !evaluate_now()) return stop();
  std::string line = "finished at step " + std::to_string(state_.step);
  for (const auto& [name, loss] : validation_loss_) line += ", " + name + " loss " + fixed(loss, 4);
  if (corpus_.known_cross_entropy > 0) {
    line += " nats per token (a perfect model of this corpus: " +
            fixed(corpus_.known_cross_entropy, 4) + ")";
  }
  log_.say(line);
  return Outcome::finished;
}

}  // namespace normlab
