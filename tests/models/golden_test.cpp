// normlab against transformers and PyTorch: five models, expected in float64
// (tests/golden/README.md says what each tensor of expected.safetensors is).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "catch.h"
#include "engine/hugging_face.h"
#include "engine/optimizer.h"
#include "engine/safetensors.h"
#include "engine/schedule.h"
#include "engine/weights.h"
#include "kernels/numbers.h"
#include "models/model.h"

namespace normlab {
namespace {

struct Case {
  std::string name;
  double gradient_clip;  // as in its expected.json, like all settings below
};

std::vector<Case> cases() {
  return {{"gpt2", 0.85}, {"llama", 6.0}, {"llama_tied", 6.0}, {"mistral", 4.0}, {"qwen2", 4.5}};
}

constexpr int64_t kPromptTokens = 5;

OptimizerConfig golden_optimizer(double gradient_clip) {
  OptimizerConfig optimizer;
  optimizer.learning_rate = 5e-3;
  optimizer.beta1 = 0.9;
  optimizer.beta2 = 0.95;
  optimizer.epsilon = 1e-8;
  optimizer.weight_decay = 0.1;
  optimizer.gradient_clip = gradient_clip;
  return optimizer;
}

ScheduleConfig golden_schedule() {
  ScheduleConfig schedule;
  schedule.kind = ScheduleKind::cosine;
  schedule.warmup_steps = 10;
  schedule.total_steps = 40;
  schedule.minimum_ratio = 0.1;
  return schedule;
}

// Largest error by the largest magnitude of a tensor. In double precision what is left is the
// file's rounding to float32, half an ulp = 6e-8. In single precision PyTorch's own errors are, in
// the worst of the first three cases: logits 5.3e-6, losses 1.5e-6, gradients 5.9e-6, losses of
// training 4.4e-7, gradient norms 7.0e-6, trained weights 2.6e-6.
//
// In bf16 the bounds are one and a half times what was measured for a pass and twice that for
// training, where a product in another order moves which way later numbers are rounded. Worst of
// five builds (two libraries of products, with and without native instructions, -O1): gpt2
// logits 1.7e-2, losses 5.6e-3, gradients 3.4e-2, losses of training 4.7e-4, gradient norms 3.5e-3,
// trained masters 5.1e-3; the llamas 5.6e-2, 2.2e-2, 8.2e-2, 8.6e-3, 8.2e-2 and 2.5e-2. These
// models are made to be sensitive: rounding nothing but the weights moves the logits, computed in
// double, by 1.0e-2 and 3.6e-2.
struct Bounds {
  double logits, losses, gradients, train_losses, train_norms, trained;
};

Bounds bounds_of(Precision precision, const std::string& name) {
  switch (precision) {
    case Precision::fp64:
      return {1e-7, 1e-7, 1e-7, 1e-7, 1e-7, 1e-7};
    case Precision::fp32:
      return {1e-5, 1e-5, 1e-4, 2e-6, 3e-5, 1e-5};
    case Precision::bf16:
      return name == "gpt2" ? Bounds{2.5e-2, 9e-3, 5e-2, 1e-3, 7e-3, 1e-2}
                            : Bounds{8.5e-2, 3.3e-2, 0.13, 1.7e-2, 0.16, 5e-2};
    case Precision::pure_bf16_weights:  // these have golden numbers of their own
    case Precision::pure_bf16_gradients:
    case Precision::pure_bf16_forward:
      break;
  }
  return {};
}

double relative_error(const std::vector<double>& actual, const std::vector<double>& expected) {
  REQUIRE(actual.size() == expected.size());
  double error = 0, largest = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double difference = std::abs(actual[i] - expected[i]);
    if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
    error = std::max(error, difference);
    largest = std::max(largest, std::abs(expected[i]));
  }
  return error / largest;
}

// A tensor and the memory that it lies in.
struct Owned {
  Memory memory;
  Tensor tensor;
};

Owned allocate(Ops& ops, DType dtype, Shape shape) {
  Memory memory = ops.allocate(shape.elements() * size_of(dtype));
  const Tensor tensor(memory.data(), dtype, shape);
  ops.zero(tensor);
  return {std::move(memory), tensor};
}

Owned upload(Ops& ops, const std::vector<int32_t>& values, Shape shape) {
  Owned owned = allocate(ops, DType::i32, shape);
  ops.upload(owned.tensor, values.data());
  return owned;
}

// A case's files, and its model on the CPU.
struct Golden {
  std::string directory;
  SafetensorsFile expected;
  std::unique_ptr<Ops> ops;
  Model model;

  Golden(const std::string& name, Precision precision, const Workload& workload)
      : directory(std::string(SOURCE_DIRECTORY) + "/tests/golden/" + name),
        expected(directory + "/expected.safetensors"),
        ops(make_ops(Device::cpu, precision, 2)),
        model(*ops, read_config_json(directory).config, workload) {
    load_weights(model, directory);
  }

  std::vector<double> numbers(const std::string& tensor) const {
    const std::vector<float> values = expected.read(tensor);
    return {values.begin(), values.end()};
  }
  std::vector<int32_t> integers(const std::string& tensor) const {
    const std::span<const std::byte> bytes = expected.bytes(tensor);
    std::vector<int32_t> values(bytes.size() / sizeof(int32_t));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
};

// The part of a parameter (or of its gradient) that is one tensor of a file, in the file's order.
std::vector<double> as_in_file(Ops& ops, ConstTensor whole, const NamedSlice& slice) {
  const std::vector<double> rows = download_numbers(ops, slice.of(whole));
  if (!slice.transposed) return rows;
  const size_t outputs = static_cast<size_t>(slice.count);
  const size_t inputs = rows.size() / outputs;
  std::vector<double> turned(rows.size());
  for (size_t out = 0; out < outputs; ++out) {
    for (size_t in = 0; in < inputs; ++in) turned[in * outputs + out] = rows[out * inputs + in];
  }
  return turned;
}

int64_t counted(const std::vector<int32_t>& targets) {
  return std::count_if(targets.begin(), targets.end(), [](int32_t target) { return target >= 0; });
}

// Loss and gradients of one batch of B sequences: the step's mean over the tokens that count.
void run_step(Golden& golden, StepState state, const std::vector<int32_t>& tokens,
              const std::vector<int32_t>& targets, int64_t sequences) {
  Ops& ops = *golden.ops;
  const Shape shape{sequences, static_cast<int64_t>(tokens.size()) / sequences};
  const Owned tokens_there = upload(ops, tokens, shape),
              targets_there = upload(ops, targets, shape);
  const Batch batch{tokens_there.tensor, targets_there.tensor};
  state.loss_scale = 1.0 / static_cast<double>(counted(targets));
  ops.set_step_state(state);
  ops.zero_loss();
  ops.zero(golden.model.gradients());
  golden.model.forward(batch, Pass::training);
  golden.model.backward(batch);
  ops.synchronize();  // before the batch goes
}

// Trains for as many steps as expected; returns loss, gradient norm and learning rate of each, and
// the optimizer, which may hold the masters.
struct Training {
  std::vector<double> losses, norms, rates;
  std::unique_ptr<Optimizer> optimizer;
};

Training train(Golden& golden, double gradient_clip) {
  const std::vector<int64_t> shape = golden.expected.tensors().at("train_tokens").shape;
  const std::vector<int32_t> tokens = golden.integers("train_tokens");
  const std::vector<int32_t> targets = golden.integers("train_targets");
  const OptimizerConfig config = golden_optimizer(gradient_clip);
  Training training;
  training.optimizer = std::make_unique<Optimizer>(golden.model, config);
  load_weights(golden.model, golden.directory, training.optimizer->masters());
  for (int64_t step = 0; step < shape[0]; ++step) {
    const auto of_step = [&](const std::vector<int32_t>& all) {
      const int64_t size = shape[1] * shape[2];
      return std::vector<int32_t>(all.begin() + step * size, all.begin() + (step + 1) * size);
    };
    const auto update = static_cast<double>(step + 1);
    StepState state;
    state.learning_rate = config.learning_rate * learning_rate_factor(golden_schedule(), step);
    state.first_moment_correction = 1 - std::pow(config.beta1, update);
    state.second_moment_correction = 1 - std::pow(config.beta2, update);
    state.gradient_clip = config.gradient_clip;
    run_step(golden, state, of_step(tokens), of_step(targets), shape[1]);
    training.optimizer->step();
    const StepResult result = golden.ops->download_step_result();
    training.losses.push_back(result.loss);
    training.norms.push_back(result.gradient_norm);
    training.rates.push_back(state.learning_rate);
  }
  return training;
}

// A key bias moves all scores of a query alike: softmax does not see it, its gradient is 0 but for
// rounding. Adam makes full steps of that rounding, so but for double its way is anybody's; the
// query's and the value's thirds beside it are not.
void forget_key_bias(std::vector<double>& bias) {
  const auto third = static_cast<std::ptrdiff_t>(bias.size() / 3);
  std::fill(bias.begin() + third, bias.begin() + 2 * third, 0.0);
}

int32_t argmax(const std::vector<double>& logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

TEST_CASE("golden: logits, losses and gradients are those of transformers") {
  const Case golden_case = GENERATE(from_range(cases()));
  const Precision precision = GENERATE(Precision::fp64, Precision::fp32, Precision::bf16);
  CAPTURE(golden_case.name, static_cast<int>(precision));
  const Bounds bounds = bounds_of(precision, golden_case.name);
  Golden golden(golden_case.name, precision, {3, 72, Purpose::training});
  Ops& ops = *golden.ops;
  Model& model = golden.model;
  const std::vector<int32_t> targets = golden.integers("targets");
  run_step(golden, {}, golden.integers("tokens"), targets, 3);

  const Owned logits = allocate(ops, ops.working_type(), {3 * 72, model.config().vocabulary});
  model.head(logits.tensor, model.final_activation());
  CHECK(relative_error(download_numbers(ops, logits.tensor), golden.numbers("logits")) <
        bounds.logits);

  const StepResult result = ops.download_step_result();
  CHECK(relative_error({result.loss}, golden.numbers("loss")) < bounds.losses);
  const Owned targets_there = upload(ops, targets, {3, 72});
  const Tensor losses = model.losses({{}, targets_there.tensor});
  CHECK(relative_error(download_numbers(ops, losses), golden.numbers("losses")) < bounds.losses);

  for (const NamedSlice& slice : file_names(model.config())) {
    CAPTURE(slice.name);
    const Parameter& parameter = model.parameters()[static_cast<size_t>(slice.parameter)];
    CHECK(relative_error(as_in_file(ops, parameter.gradient, slice),
                         golden.numbers("grad." + slice.name)) < bounds.gradients);
  }
}

TEST_CASE("golden: the name map covers every tensor of the file and every element of the model") {
  const Case golden_case = GENERATE(from_range(cases()));
  CAPTURE(golden_case.name);
  Golden golden(golden_case.name, Precision::fp32, {1, 1, Purpose::inference});
  const SafetensorsFile file(golden.directory + "/model.safetensors");
  const std::vector<NamedSlice> slices = file_names(golden.model.config());
  CHECK(slices.size() == file.tensors().size());
  int64_t elements = 0;
  for (const NamedSlice& slice : slices) {
    CAPTURE(slice.name);
    REQUIRE(file.contains(slice.name));
    const Parameter& parameter = golden.model.parameters()[static_cast<size_t>(slice.parameter)];
    const std::vector<float> stored = file.read(slice.name);
    CHECK(relative_error(as_in_file(*golden.ops, parameter.value, slice),
                         {stored.begin(), stored.end()}) == 0);
    elements += file.tensors().at(slice.name).elements();
  }
  CHECK(elements == parameter_count(golden.model.config()));
}

TEST_CASE("golden: 30 steps of AdamW with warm-up and clipping end where PyTorch's do") {
  const Case golden_case = GENERATE(from_range(cases()));
  const Precision precision = GENERATE(Precision::fp64, Precision::fp32, Precision::bf16);
  CAPTURE(golden_case.name, static_cast<int>(precision));
  const Bounds bounds = bounds_of(precision, golden_case.name);
  Golden golden(golden_case.name, precision, {4, 24, Purpose::training});
  const Training training = train(golden, golden_case.gradient_clip);
  CHECK(relative_error(training.rates, golden.numbers("train_learning_rates")) < 1e-7);
  CHECK(relative_error(training.losses, golden.numbers("train_losses")) < bounds.train_losses);
  CHECK(relative_error(training.norms, golden.numbers("train_grad_norms")) < bounds.train_norms);

  int compared = 0;
  for (const NamedSlice& slice : file_names(golden.model.config())) {
    CAPTURE(slice.name);
    if (!golden.expected.contains("final." + slice.name)) continue;  // llama_tied keeps a few only
    const Parameter& parameter = golden.model.parameters()[static_cast<size_t>(slice.parameter)];
    const Tensor masters = training.optimizer->masters();
    std::vector<double> trained =
        as_in_file(*golden.ops, masters ? parameter.part_of(masters) : parameter.value, slice);
    std::vector<double> expected = golden.numbers("final." + slice.name);
    if (precision != Precision::fp64 && slice.name.ends_with("c_attn.bias")) {
      forget_key_bias(trained);
      forget_key_bias(expected);
    }
    CHECK(relative_error(trained, expected) < bounds.trained);
    ++compared;
  }
  CHECK(compared >= 6);
}

TEST_CASE("golden: greedy decoding with a cache continues as transformers does without") {
  const Case golden_case = GENERATE(from_range(cases()));
  const Precision precision = GENERATE(Precision::fp64, Precision::fp32, Precision::bf16);
  CAPTURE(golden_case.name, static_cast<int>(precision));
  Golden golden(golden_case.name, precision, {1, kPromptTokens, Purpose::inference});
  Ops& ops = *golden.ops;
  const std::vector<int32_t> tokens = golden.integers("tokens");
  std::vector<int32_t> next(tokens.begin(), tokens.begin() + kPromptTokens);
  std::vector<int32_t> continuation;
  golden.model.start_decoding();
  while (continuation.size() < golden.integers("greedy").size()) {
    const Owned there = upload(ops, next, {1, static_cast<int64_t>(next.size())});
    next = {argmax(download_numbers(ops, golden.model.decode(there.tensor)))};
    continuation.push_back(next.front());
  }
  CHECK(continuation == golden.integers("greedy"));
}

}  // namespace normlab
