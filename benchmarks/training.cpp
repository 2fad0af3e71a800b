// Times the training steps of a recipe on random tokens; beside them the same steps with all norms
// frozen and, in a job of several ranks, the same without a word between ranks, and the words
// alone.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "benchmarks/timed_ops.h"
#include "engine/config.h"
#include "engine/corpus.h"
#include "engine/device.h"
#include "engine/optimizer.h"
#include "engine/ranks.h"
#include "engine/step_gradient.h"
#include "tools/main.h"

namespace normlab {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  int64_t vocabulary = 257;
  int64_t steps = 35;
  int64_t profile_steps = 0;
  bool frozen_norms = false;
};

HostBatch random_batch(const Config& config) {
  HostBatch batch;
  batch.sequences = config.sequences_per_step();
  batch.tokens_per_sequence = config.data.sequence_length;
  batch.target_count = batch.token_count = config.batch.tokens_per_step;
  batch.lengths.assign(static_cast<size_t>(batch.sequences),
                       static_cast<int32_t>(batch.tokens_per_sequence));
  std::mt19937 random(1);
  std::uniform_int_distribution<int32_t> token(0,
                                               static_cast<int32_t>(config.model.vocabulary) - 1);
  for (int64_t i = 0; i < batch.token_count; ++i) {
    batch.tokens.push_back(token(random));
    batch.targets.push_back(token(random));
  }
  return batch;
}

// Another communicator, which can be kept from saying anything.
class Muted final : public Communicator {
 public:
  explicit Muted(Communicator& other)
      : Communicator(other.place(), other.timeout_seconds()), other_(other) {}
  void mute(bool muted) { muted_ = muted; }

  std::string description() const override { return other_.description(); }
  void sum(Tensor tensor) override {
    if (!muted_) other_.sum(tensor);
  }
  void sum_parts(Tensor tensor) override {
    if (!muted_) other_.sum_parts(tensor);
  }
  void gather_parts(Tensor tensor) override {
    if (!muted_) other_.gather_parts(tensor);
  }
  void send(ConstTensor tensor, int to) override {
    if (!muted_) other_.send(tensor, to);
  }
  void receive(Tensor tensor, int from) override {
    if (!muted_) other_.receive(tensor, from);
  }
  void broadcast(Tensor tensor, int from) override {
    if (!muted_) other_.broadcast(tensor, from);
  }
  void join() override {
    if (!muted_) other_.join();
  }
  void sum(std::span<double> values) override {
    if (!muted_) other_.sum(values);
  }
  std::vector<uint64_t> gather(uint64_t value) override { return other_.gather(value); }
  void end_job(int exit_code) override { other_.end_job(exit_code); }

 private:
  void attach(Ops&) override {}
  void detach() override {}

  Communicator& other_;
  bool muted_ = false;
};

// A model in training whose weights never change (the learning rate is 0): every step is the same
// work.
class Training {
 public:
  Training(const Config& config, Communicator& communicator, bool profiled)
      : config_(config),
        ops_(make_device(run_of_rank(config.run, communicator.place()),
                         communicator.place().local_rank)),
        attachment_(communicator, *ops_),
        communicator_(communicator),
        timed_ops_(*ops_),
        model_(profiled ? static_cast<Ops&>(timed_ops_) : *ops_, config.model,
               training_workload(config)),
        optimizer_(model_, config.optimizer, communicator_, config.parallel),
        removal_(model_, {}, -1),
        gradient_(model_, config_, communicator_, removal_),
        batch_(random_batch(config)) {
    model_.initialize(1, optimizer_.masters());
    step();
    learn_stds();
  }

  std::string device_name() const { return ops_->device_name(); }
  // Of one step's sums.
  int64_t gradient_bytes() const {
    return model_.gradients().elements() * size_of(model_.gradients().dtype);
  }
  // Live, or all frozen with the stds of the first sequences.
  void set_gate(double gate) {
    for (size_t site = 0; site < stds_.size(); ++site) {
      NormState state;
      state.gate = gate;
      state.sigma = stds_[site];
      model_.set_norm_state(site, state);
    }
  }
  // Seconds of each verb in so many steps, and in "all".
  std::map<std::string, TimedOps::Total> profile(int64_t steps) {
    timed_ops_.forget();
    TimedOps::Total all{.calls = steps};
    for (int64_t i = 0; i < steps; ++i) all.seconds += seconds_of_step();
    auto totals = timed_ops_.totals();
    totals["all"] = all;
    return totals;
  }
  // Of the slowest rank; all begin together.
  double seconds_of_step() {
    return seconds_of([&] { step(); });
  }
  // Ranks that compute and say nothing.
  double seconds_without_communication() {
    communicator_.mute(true);
    const double seconds = seconds_of_step();
    communicator_.mute(false);
    return seconds;
  }
  // What a step has to say, one sum after the other, and nothing else.
  double seconds_of_communication() {
    return seconds_of([&] {
      for (const Bucket& bucket : model_.buckets()) sum_gradients(part(model_.gradients(), bucket));
      communicator_.join();
      if (gradient_.extent() == Optimizer::Gradients::whole) return;
      for (const Bucket& bucket : model_.buckets()) {
        communicator_.gather_parts(part(model_.values(), bucket));
      }
      communicator_.join();
    });
  }

 private:
  static Tensor part(Tensor all, const Bucket& bucket) {
    return all.column_slice(bucket.begin, bucket.end - bucket.begin);
  }

  void sum_gradients(Tensor gradients) {
    if (gradient_.extent() == Optimizer::Gradients::whole) {
      communicator_.sum(gradients);
    } else {
      communicator_.sum_parts(gradients);
    }
  }

  template <typename Work>
  double seconds_of(const Work& work) {
    communicator_.gather(0);
    const auto begin = std::chrono::steady_clock::now();
    work();
    ops_->synchronize();
    const std::chrono::nanoseconds elapsed = std::chrono::steady_clock::now() - begin;
    const auto of_all = communicator_.gather(static_cast<uint64_t>(elapsed.count()));
    return 1e-9 * static_cast<double>(*std::max_element(of_all.begin(), of_all.end()));
  }

  void step() {
    StepState state;
    state.loss_scale = 1.0 / static_cast<double>(batch_.target_count);
    state.gradient_clip = config_.optimizer.gradient_clip;
    ops_->zero_loss();
    if (!gradient_.compute(batch_, state)) throw Error("stopped");
    optimizer_.step(gradient_.extent());
    ops_->download_step_result();
  }

  void learn_stds() {
    const int64_t sequences = std::min(config_.batch.micro_batch, batch_.sequences);
    BatchUploader uploader(*ops_, sequences, batch_.tokens_per_sequence);
    const Batch batch = uploader.upload(batch_, 0, sequences);
    model_.zero_norm_stds();
    model_.forward(batch, Pass::training);
    model_.add_norm_stds(batch);
    for (const NormStdSums& sums : model_.download_norm_stds()) {
      stds_.push_back(sums.others / static_cast<double>(sequences * batch_.tokens_per_sequence));
    }
  }

  Config config_;
  std::unique_ptr<Ops> ops_;
  Attachment attachment_;
  Muted communicator_;
  TimedOps timed_ops_;
  Model model_;
  Optimizer optimizer_;
  NormRemoval removal_;
  StepGradient gradient_;
  HostBatch batch_;
  std::vector<double> stds_;  // of each norm's input
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Seconds, one for each step.
struct Times {
  std::vector<double> step, frozen;
  std::vector<double> without_communication, communication;
};

// What is compared is done in turns.
Times measure_steps(Training& training, const Options& options, bool among_ranks) {
  Times times;
  for (int64_t step = 0; step < options.steps; ++step) {
    training.set_gate(1);
    times.step.push_back(training.seconds_of_step());
    if (among_ranks) {
      times.without_communication.push_back(training.seconds_without_communication());
      times.communication.push_back(training.seconds_of_communication());
    }
    if (!options.frozen_norms) continue;
    training.set_gate(0);
    times.frozen.push_back(training.seconds_of_step());
  }
  return times;
}

std::string speed_text(double seconds, const Config& config) {
  std::ostringstream text;
  text << "\"seconds_per_step\": " << seconds << ", \"tokens_per_second\": "
       << static_cast<double>(config.batch.tokens_per_step) / seconds;
  return text.str();
}

void print(const Times& times, const Training& training, const Config& config,
           const Communicator& communicator) {
  std::cout << "{\"device\": \"" << training.device_name()
            << "\", \"ranks\": " << communicator.ranks()
            << ", \"parameters\": " << parameter_count(config.model)
            << ", \"tokens_per_step\": " << config.batch.tokens_per_step << ", "
            << speed_text(median(times.step), config);
  if (!times.communication.empty()) {
    const double alone = median(times.communication);
    const double without = median(times.without_communication);
    std::cout << ", \"communication\": {\"by\": \"" << communicator.description()
              << "\", \"gradient_bytes\": " << training.gradient_bytes()
              << ", \"seconds_alone\": " << alone << ", \"seconds_per_step_without\": " << without
              << ", \"hidden\": " << 1 - (median(times.step) - without) / alone << "}";
  }
  if (!times.frozen.empty()) {
    std::cout << ", \"frozen_norms\": {" << speed_text(median(times.frozen), config)
              << ", \"speed_by_live\": " << median(times.step) / median(times.frozen) << "}";
  }
}

// Per step, the longest first; GFLOP/s of products.
void print_profile(const std::map<std::string, TimedOps::Total>& totals) {
  std::vector<std::pair<std::string, TimedOps::Total>> sorted(totals.begin(), totals.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  const TimedOps::Total& all = totals.at("all");
  const auto steps = static_cast<double>(all.calls);
  std::cout << ", \"profile\": [";
  const char* comma = "";
  for (const auto& [verb, total] : sorted) {
    std::cout << comma << "\n  {\"verb\": \"" << verb
              << "\", \"seconds\": " << total.seconds / steps
              << ", \"share\": " << total.seconds / all.seconds
              << ", \"calls\": " << static_cast<double>(total.calls) / steps;
    if (total.flops > 0) std::cout << ", \"gflops\": " << 1e-9 * total.flops / total.seconds;
    std::cout << "}";
    comma = ",";
  }
  std::cout << "]";
}

int measure(const Options& options) {
  Config config = load_config(options.config, options.overrides);
  config.norm_removal = {};
  resolve_vocabulary(config.model, options.vocabulary);
  const bool profiled = options.profile_steps > 0;
  if (profiled && resolve_device(config.run).device == DeviceChoice::cuda) {
    throw input_error(
        "--profile-steps (a GPU's verbs return before they are done). Use "
        "run.device=cpu");
  }
  const auto communicator = join_job(config);
  check_ranks(config, communicator->ranks());
  if (config.parallel.reproducible && communicator->ranks() > 1) {
    throw input_error(
        "parallel.reproducible = true among ranks (the sums that are timed alone are "
        "not the tree's). Use parallel.reproducible=false");
  }
  Training training(config, *communicator, profiled);
  const Times times = measure_steps(training, options, communicator->ranks() > 1);
  training.set_gate(1);
  const auto profile = training.profile(options.profile_steps);
  if (!communicator->is_first()) return kExitDone;
  print(times, training, config, *communicator);
  if (profiled) print_profile(profile);
  std::cout << "}\n";
  return kExitDone;
}

}  // namespace
}  // namespace normlab

int main(int argc, char* argv[]) {
  normlab::Options options;
  CLI::App app(
      "Times the training steps of a recipe on random tokens; prints JSON, medians over "
      "them.\nIn a job of several ranks also the same steps without communication, a step's "
      "communication alone, and how much of it is hidden: 1 - (step - step without) / alone."
      "\nExample: benchmark_training tools/recipes/bytes-gpt2.yaml --frozen-norms",
      "benchmark_training");
  app.add_option("config", options.config, "a recipe; its data are not read")->required();
  app.add_option("overrides", options.overrides, "section.key=value");
  app.add_option("--vocabulary", options.vocabulary, "where the recipe leaves it to the data (257)")
      ->check(CLI::PositiveNumber);
  app.add_option("--steps", options.steps, "of each kind (35)")->check(CLI::PositiveNumber);
  app.add_option("--profile-steps", options.profile_steps,
                 "so many more, with the seconds of each verb (a CPU's)")
      ->check(CLI::PositiveNumber);
  app.add_flag(
      "--frozen-norms", options.frozen_norms,
      "in turns also with all norms frozen; speed_by_live: by the median step with live ones");
  return normlab::run_main(app, argc, argv, [&] { return normlab::measure(options); });
}
