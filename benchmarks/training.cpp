// Times the training steps of a recipe on random tokens, and beside them the same steps with all
// norms frozen.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "engine/config.h"
#include "engine/corpus.h"
#include "engine/device.h"
#include "engine/optimizer.h"
#include "engine/step_gradient.h"
#include "tools/main.h"

namespace normlab {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  int64_t vocabulary = 257;
  int64_t steps = 5;
  int64_t rounds = 7;
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

// A model in training whose weights never change (the learning rate is 0): every step is the same
// work.
class Training {
 public:
  explicit Training(const Config& config)
      : config_(config),
        ops_(make_device(config.run)),
        model_(*ops_, config.model, training_workload(config)),
        optimizer_(model_, config.optimizer),
        communicator_(make_local_communicator()),
        removal_(model_, {}, -1),
        gradient_(model_, config_, *communicator_, removal_),
        batch_(random_batch(config)) {
    model_.initialize(1, optimizer_.masters());
    step();
    learn_stds();
  }

  std::string device_name() const { return ops_->device_name(); }
  // Live, or all frozen with the stds of the first sequences.
  void set_gate(double gate) {
    for (size_t site = 0; site < stds_.size(); ++site) {
      NormState state;
      state.gate = gate;
      state.sigma = stds_[site];
      model_.set_norm_state(site, state);
    }
  }
  double seconds_per_step(int64_t steps) {
    const auto begin = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < steps; ++i) step();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
    return elapsed.count() / static_cast<double>(steps);
  }

 private:
  void step() {
    StepState state;
    state.loss_scale = 1.0 / static_cast<double>(batch_.target_count);
    state.gradient_clip = config_.optimizer.gradient_clip;
    ops_->zero_loss();
    if (!gradient_.compute(batch_, state)) throw Error("stopped");
    optimizer_.step();
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
  Model model_;
  Optimizer optimizer_;
  std::unique_ptr<Communicator> communicator_;
  NormRemoval removal_;
  StepGradient gradient_;
  HostBatch batch_;
  std::vector<double> stds_;  // of each norm's input
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void print_speed(double seconds, const Config& config) {
  std::cout << "\"seconds_per_step\": " << seconds << ", \"tokens_per_second\": "
            << static_cast<double>(config.batch.tokens_per_step) / seconds;
}

int measure(const Options& options) {
  Config config = load_config(options.config, options.overrides);
  config.norm_removal = {};
  resolve_vocabulary(config.model, options.vocabulary);
  Training training(config);
  std::vector<double> live, frozen, ratios;
  for (int64_t round = 0; round < options.rounds; ++round) {
    training.set_gate(1);
    live.push_back(training.seconds_per_step(options.steps));
    if (!options.frozen_norms) continue;
    training.set_gate(0);
    frozen.push_back(training.seconds_per_step(options.steps));
    ratios.push_back(live.back() / frozen.back());
  }
  std::cout << "{\"device\": \"" << training.device_name()
            << "\", \"parameters\": " << parameter_count(config.model)
            << ", \"tokens_per_step\": " << config.batch.tokens_per_step << ", ";
  print_speed(median(live), config);
  if (options.frozen_norms) {
    std::cout << ", \"frozen_norms\": {";
    print_speed(median(frozen), config);
    std::cout << ", \"speed_by_live\": " << median(ratios) << "}";
  }
  std::cout << "}\n";
  return kExitDone;
}

}  // namespace
}  // namespace normlab

int main(int argc, char* argv[]) {
  normlab::Options options;
  CLI::App app(
      "Times the training steps of a recipe on random tokens; prints JSON, medians over the "
      "rounds.\nExample: benchmark_training tools/recipes/bytes-gpt2.yaml --frozen-norms",
      "benchmark_training");
  app.add_option("config", options.config, "a recipe; its data are not read")->required();
  app.add_option("overrides", options.overrides, "section.key=value");
  app.add_option("--vocabulary", options.vocabulary, "where the recipe leaves it to the data (257)")
      ->check(CLI::PositiveNumber);
  app.add_option("--steps", options.steps, "of a round (5)")->check(CLI::PositiveNumber);
  app.add_option("--rounds", options.rounds, "(7)")->check(CLI::PositiveNumber);
  app.add_flag(
      "--frozen-norms", options.frozen_norms,
      "in every round also with all norms frozen; speed_by_live: the median of their ratios");
  return normlab::run_main(app, argc, argv, [&] { return normlab::measure(options); });
}
