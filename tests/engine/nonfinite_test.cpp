// Numbers that are not finite are found, and who wrote the first of them.
#include "engine/nonfinite.h"

#include <cmath>
#include <limits>
#include <random>

#include "catch.h"
#include "engine/evaluation.h"
#include "engine/nonfinite_watch.h"
#include "engine/optimizer.h"
#include "kernels/numbers.h"
#include "small_model.h"

using namespace normlab;
using namespace normlab::test;

namespace {

constexpr float kNothing = std::numeric_limits<float>::quiet_NaN();

// Another Ops, which writes a NaN at the end of what one of its calls has written.
class PoisonedOps final : public ObservedOps {
 public:
  using ObservedOps::ObservedOps;
  // Of the calls from now on, of every verb or of one, counted from 0; −1: none.
  void poison(int64_t call, const std::string& verb = "") {
    call_ = call;
    verb_ = verb;
    calls_ = 0;
    poisoned_.clear();
  }
  int64_t calls() const { return calls_; }
  // The verb; "" where the call wrote no number, or none yet.
  const std::string& poisoned() const { return poisoned_; }
  int64_t rows() const { return rows_; }

 private:
  void observe(const ObservedVerb& verb, const std::function<void()>& run) override {
    run();
    if (!verb_.empty() && verb_ != verb.name) return;
    if (calls_++ != call_) return;
    for (const Tensor output : verb.outputs) {
      if (!output || output.dtype != DType::f32) continue;
      const Tensor last =
          output.row_slice(output.rows() - 1, 1).column_slice(output.columns() - 1, 1);
      ops().upload(last, &kNothing);
      poisoned_ = verb.name;
      rows_ = output.rows();
    }
  }

  int64_t call_ = -1, calls_ = 0, rows_ = 0;
  std::string verb_, poisoned_;
};

// Three sequences, the last of them shorter.
HostBatch some_batch(const ModelConfig& config) {
  HostBatch batch;
  batch.sequences = 3;
  batch.tokens_per_sequence = config.context;
  const auto tokens = static_cast<int32_t>(config.context);
  batch.lengths = {tokens, tokens, 7};
  std::mt19937 random(5);
  for (int64_t i = 0; i < batch.sequences * config.context; ++i) {
    batch.tokens.push_back(static_cast<int32_t>(random() % 19));
    const bool filling = i >= 2 * config.context + 7;
    batch.targets.push_back(filling ? -1 : static_cast<int32_t>(random() % 19));
  }
  batch.target_count = batch.token_count = 2 * config.context + 7;
  return batch;
}

// A step of two passes, of two sequences and of one, on a poisoned device.
struct PoisonedStep {
  explicit PoisonedStep(Family family) : PoisonedStep(small_config(family)) {}
  explicit PoisonedStep(const ModelConfig& of)
      : config(of),
        device(make_ops(Device::cpu, Precision::fp32, 1)),
        poisoned(*device),
        watch(poisoned),
        model(watch, config, {2, config.context, Purpose::training}),
        optimizer(model, OptimizerConfig{}),
        uploader(watch, 2, config.context) {
    model.initialize(3);
  }

  void run() {
    const HostBatch batch = some_batch(config);
    StepState state;
    state.learning_rate = 0.01;
    state.loss_scale = 0.01;
    watch.zero(model.gradients());
    watch.zero_loss();
    for (const int64_t first : {0, 2}) {
      state.first_sequence = first;
      watch.set_step_state(state);
      const Batch pass = uploader.upload(batch, first, first == 0 ? 2 : 1);
      model.forward(pass, Pass::training);
      model.backward(pass);
    }
    optimizer.step();
  }

  ModelConfig config;
  std::unique_ptr<Ops> device;
  PoisonedOps poisoned;
  NonfiniteWatch watch;
  Model model;
  Optimizer optimizer;
  BatchUploader uploader;
};

}  // namespace

TEST_CASE("nonfinite: the first of each type of number, in parts of tensors too") {
  for (const Precision precision : {Precision::fp32, Precision::bf16, Precision::fp64}) {
    const auto ops = make_ops(Device::cpu, precision, 1);
    const Memory memory = ops->allocate(20 * size_of(ops->working_type()));
    const Tensor all(memory.data(), ops->working_type(), {4, 5});
    std::vector<double> numbers(20, 1e30);
    upload_numbers(*ops, all, numbers);
    CHECK(find_nonfinite(*ops, all).count == 0);
    numbers[13] = -std::numeric_limits<double>::infinity();  // (2,3)
    numbers[19] = kNothing;                                  // (3,4)
    upload_numbers(*ops, all, numbers);
    const Nonfinite whole = find_nonfinite(*ops, all);
    CHECK((whole.count == 2 && whole.row == 2 && whole.column == 3));
    CHECK(whole.value == -std::numeric_limits<double>::infinity());
    const Nonfinite part = find_nonfinite(*ops, all.column_slice(4, 1));
    CHECK((part.count == 1 && part.row == 3 && part.column == 0 && std::isnan(part.value)));
    CHECK(find_nonfinite(*ops, all.column_slice(0, 3)).count == 0);
  }
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  const Memory memory = ops->allocate(4);
  const int32_t id = 0x7f800000;
  const Tensor ids(memory.data(), DType::i32, {1, 1});
  ops->upload(ids, &id);
  CHECK(find_nonfinite(*ops, ids).count == 0);
}

TEST_CASE("nonfinite: of weights the first in the forward pass, of gradients in the backward") {
  SmallModel small(small_config(Family::gpt2), Purpose::training);
  const auto alone = make_local_communicator();
  const auto spoil = [&](Tensor tensor) {
    small.ops->upload(tensor.row_slice(0, 1).column_slice(0, 1), &kNothing);
  };
  const auto& parameters = small.model.parameters();
  const auto named = [&](const std::string& name) {
    return parameters[static_cast<size_t>(find_parameter(parameters, name))];
  };
  CHECK(first_nonfinite(small.model, *alone).find("squares") != std::string::npos);
  spoil(named("layers.0.mlp.out.weight").gradient);
  CHECK(first_nonfinite(small.model, *alone) == "the gradient of layers.0.mlp.out.weight");
  spoil(named("layers.1.attention.qkv.weight").gradient);
  CHECK(first_nonfinite(small.model, *alone) == "the gradient of layers.1.attention.qkv.weight");
  spoil(named("layers.1.mlp.out.weight").value);
  CHECK(first_nonfinite(small.model, *alone) == "the weight layers.1.mlp.out.weight");
  spoil(named("layers.0.mlp.out.weight").value);
  CHECK(first_nonfinite(small.model, *alone) == "the weight layers.0.mlp.out.weight");
}

TEST_CASE("nonfinite: whichever call of a step writes it, that call is found") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    PoisonedStep undisturbed(family);
    undisturbed.poisoned.poison(-1);
    undisturbed.watch.look_at(undisturbed.model);
    undisturbed.run();
    CHECK(!undisturbed.watch.finding());
    const int64_t calls = undisturbed.poisoned.calls();
    REQUIRE(calls > 80);
    int64_t found = 0;
    for (int64_t call = 0; call < calls; ++call) {
      PoisonedStep step(family);
      step.watch.look_at(step.model);
      step.poisoned.poison(call);
      step.run();
      const std::string verb = step.poisoned.poisoned();
      if (verb.empty()) continue;
      INFO("call " << call << " of " << calls << ", " << verb);
      REQUIRE(step.watch.finding());
      const NonfiniteWatch::Finding& finding = *step.watch.finding();
      CHECK(finding.verb == verb);
      CHECK(finding.numbers.count == 1);
      ++found;
    }
    CHECK(found > 80);
  }
}

TEST_CASE("nonfinite: the last row of a pass is the last token of its last sequence") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    PoisonedStep undisturbed(family);
    undisturbed.poisoned.poison(-1);
    undisturbed.run();
    int64_t last_pass = 0, parameters = 0;
    for (int64_t call = 0; call < undisturbed.poisoned.calls(); ++call) {
      PoisonedStep step(family);
      step.watch.look_at(step.model);
      step.poisoned.poison(call);
      step.run();
      if (!step.watch.finding()) continue;
      const NonfiniteWatch::Finding& finding = *step.watch.finding();
      INFO("call " << call << ", " << finding.verb << ", " << finding.parameter);
      using Of = NonfiniteWatch::Finding::Of;
      if (finding.of == Of::gradient) {
        ++parameters;
        CHECK(!finding.parameter.empty());
        CHECK(find_parameter_or_none(step.model.parameters(), finding.parameter) >= 0);
      }
      const bool of_token = finding.of == Of::rows && finding.token >= 0;
      if (!of_token) continue;
      CHECK(finding.token == 11);
      CHECK((finding.last_sequence - finding.first_sequence) == 1);
      CHECK((finding.first_sequence == 1 || finding.first_sequence == 2));
      last_pass += finding.first_sequence == 2;
    }
    CHECK(last_pass > 10);
    CHECK(parameters > 15);
  }
}

TEST_CASE("nonfinite: the head's rows are counted from the pass's first, chunk by chunk") {
  ModelConfig config = small_config(Family::llama);
  config.vocabulary = 1 << 18;  // so many that a chunk has 64 rows
  config.context = 48;
  config.layers = 1;
  // Those of the first pass have 64 rows and 32.
  std::vector<int64_t> rows;
  for (const int64_t chunk : {0, 1}) {
    PoisonedStep step(config);
    step.watch.look_at(step.model);
    step.poisoned.poison(chunk, "cross_entropy_backward");
    step.run();
    REQUIRE(step.watch.finding());
    const NonfiniteWatch::Finding& finding = *step.watch.finding();
    CHECK(finding.last_sequence == finding.first_sequence + 1);
    rows.push_back(finding.first_sequence * 48 + finding.token);
  }
  CHECK(rows == std::vector<int64_t>{63, 95});
}
