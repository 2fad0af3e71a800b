// The engine in bf16: masters, checkpoints across precisions, what `auto` comes to.
#include <algorithm>
#include <cmath>

#include "catch.h"
#include "config_text.h"
#include "engine/checkpoint.h"
#include "engine/device.h"
#include "engine/files.h"
#include "engine/generation.h"
#include "engine/resume.h"
#include "kernels/bfloat16.h"
#include "kernels/forwarding_ops.h"
#include "small_model.h"
#include "temporary_folder.h"

using namespace normlab;
using namespace normlab::test;

namespace {

std::vector<float> all_rounded(std::vector<float> numbers) {
  for (float& number : numbers) number = rounded(number);
  return numbers;
}

// A model and its optimizer.
struct Trained {
  SmallModel small;
  Optimizer optimizer;

  explicit Trained(Precision precision, Family family = Family::gpt2)
      : small(small_config(family), Purpose::training, 2, precision), optimizer(small.model, {}) {
    small.model.initialize(11, optimizer.masters());
  }
  // The weights in full.
  Tensor weights() const {
    return optimizer.masters() ? optimizer.masters() : small.model.values();
  }
  std::vector<float> numbers() const { return download_floats(*small.ops, weights()); }
  // Updates with the same gradient for every weight: each moves by the learning rate.
  void update(int times, double learning_rate) {
    for (const Parameter& parameter : small.model.parameters()) {
      const auto elements = static_cast<size_t>(parameter.value.elements());
      upload_floats(*small.ops, parameter.gradient, std::vector<float>(elements, 1.0f));
    }
    for (int i = 0; i < times; ++i) {
      ++updates;
      StepState state;
      state.learning_rate = learning_rate;
      state.first_moment_correction = 1 - std::pow(0.9, updates);
      state.second_moment_correction = 1 - std::pow(0.999, updates);
      small.ops->set_step_state(state);
      optimizer.step();
    }
  }
  int updates = 0;
};

void save(Trained& trained, const TemporaryFolder& folder, PrecisionChoice precision) {
  TrainingState state;
  state.step = 5;
  ModelDescription description{trained.small.model.config(), "bytes"};
  description.precision = precision;
  CheckpointDirectory(folder.path())
      .save(trained.small.model, trained.optimizer, state, description, 1);
}

CheckpointDirectory::Found found_in(const TemporaryFolder& folder) {
  std::vector<std::string> warnings;
  return CheckpointDirectory(folder.path()).newest_good(warnings).value();
}

RunConfig resolved(DeviceChoice device, PrecisionChoice precision) {
  RunConfig run;
  run.device = device;
  run.precision = precision;
  return resolve_device(run);
}

}  // namespace

TEST_CASE("optimizer in bf16: masters begin as the values and updates too small for bf16 add up") {
  Trained trained(Precision::bf16);
  CHECK(Optimizer(trained.small.model, {}).masters());
  const Tensor gain = trained.small.model.parameters()[2].value;
  REQUIRE(trained.small.model.parameters()[2].rule == InitRule::constant);
  const auto values = [&] { return download_floats(*trained.small.ops, gain); };
  REQUIRE(values() == std::vector<float>(16, 1.0f));
  // A fortieth of what bf16 tells from 1.
  trained.update(10, 1e-4);
  CHECK(values() == std::vector<float>(16, 1.0f));
  trained.update(90, 1e-4);
  CHECK(values() == std::vector<float>(16, rounded(0.99f)));
  const Tensor master = trained.small.model.parameters()[2].part_of(trained.optimizer.masters());
  for (const float number : download_floats(*trained.small.ops, master)) {
    CHECK(number == Approx(0.99).epsilon(1e-5));
  }
  CHECK(trained.small.values() == all_rounded(trained.numbers()));
}

TEST_CASE("optimizer in bf16: masters take over the values that the model has") {
  SmallModel small(small_config(Family::llama), Purpose::training, 2, Precision::bf16);
  const Optimizer optimizer(small.model, {});
  const std::vector<float> values = small.values();
  CHECK(download_floats(*small.ops, optimizer.masters()) == values);
  CHECK(*std::ranges::max_element(values) > 0.5f);
  SmallModel plain(small_config(Family::llama), Purpose::training);
  CHECK(!Optimizer(plain.model, {}).masters());
}

TEST_CASE("checkpoint: a run in bf16 goes on with all the bits of its masters") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    const TemporaryFolder folder;
    Trained trained(Precision::bf16, family), again(Precision::bf16, family);
    trained.update(3, 1e-3);
    CHECK(trained.numbers() != all_rounded(trained.numbers()));
    save(trained, folder, PrecisionChoice::bf16);
    again.small.model.initialize(99, again.optimizer.masters());
    CheckpointDirectory::load(found_in(folder), again.small.model, again.optimizer);
    CHECK(again.numbers() == trained.numbers());
    CHECK(again.small.values() == trained.small.values());
    again.updates = trained.updates;
    trained.update(2, 1e-3);
    again.update(2, 1e-3);
    CHECK(again.numbers() == trained.numbers());
  }
}

TEST_CASE("checkpoint: each precision opens what the other has saved") {
  const TemporaryFolder narrow_folder, wide_folder;
  Trained narrow(Precision::bf16), wide(Precision::fp32);
  // The first weights are the same in full.
  CHECK(narrow.numbers() == wide.numbers());
  CHECK(narrow.small.values() == all_rounded(wide.small.values()));
  narrow.update(3, 1e-3);
  wide.update(3, 2e-3);
  save(narrow, narrow_folder, PrecisionChoice::bf16);
  save(wide, wide_folder, PrecisionChoice::fp32);
  Trained wide_again(Precision::fp32), narrow_again(Precision::bf16);
  CheckpointDirectory::load(found_in(narrow_folder), wide_again.small.model, wide_again.optimizer);
  CHECK(wide_again.small.values() == narrow.numbers());
  CheckpointDirectory::load(found_in(wide_folder), narrow_again.small.model,
                            narrow_again.optimizer);
  CHECK(narrow_again.numbers() == wide.small.values());
  CHECK(narrow_again.small.values() == all_rounded(wide.small.values()));
  const auto moments = [](const Trained& of) {
    return download_floats(*of.small.ops, of.optimizer.second_moment());
  };
  CHECK(moments(wide_again) == moments(narrow));
  CHECK(moments(narrow_again) == moments(wide));
}

TEST_CASE("weights in bf16: a model without masters reads them rounded and writes what it has") {
  const TemporaryFolder full, narrow;
  SmallModel wide(small_config(Family::gpt2));
  SmallModel rounding(small_config(Family::gpt2), Purpose::inference, 2, Precision::bf16);
  rounding.model.initialize(99);
  write_weights(wide.model, full.path() + "/model.safetensors");
  load_weights(rounding.model, full.path());
  CHECK(rounding.values() == all_rounded(wide.values()));
  write_weights(rounding.model, narrow.path() + "/model.safetensors");
  load_weights(wide.model, narrow.path());
  CHECK(wide.values() == rounding.values());
}

TEST_CASE("generate in bf16: the tokens are the likeliest of whole passes") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    SmallModel small(small_config(family), Purpose::inference, 2, Precision::bf16);
    std::vector<int32_t> text = {3, 1, 4};
    std::vector<int32_t> emitted;
    SamplingOptions options;
    options.tokens = 6;
    options.temperature = 0;
    generate(small.model, text, options, [&](int32_t token) { emitted.push_back(token); });
    REQUIRE(emitted.size() == 6);
    for (const int32_t token : emitted) {
      const std::vector<float> logits = small.logits(text);
      CHECK(token == std::ranges::max_element(logits) - logits.begin());
      text.push_back(token);
    }
  }
}

TEST_CASE("resolve_device: auto is bf16 on a GPU and fp32 on a CPU") {
  using enum PrecisionChoice;
  CHECK(resolved(DeviceChoice::cpu, automatic).precision == fp32);
  CHECK(resolved(DeviceChoice::cuda, automatic).precision == bf16);
  CHECK(resolved(DeviceChoice::cuda, fp32).precision == fp32);
  CHECK(resolved(DeviceChoice::cpu, bf16).precision == bf16);
  const RunConfig run = resolved(DeviceChoice::automatic, automatic);
  CHECK(run.device == (cuda_available() ? DeviceChoice::cuda : DeviceChoice::cpu));
  CHECK(run.precision == (cuda_available() ? bf16 : fp32));
  CHECK(precision_of(resolved(DeviceChoice::cpu, bf16)) == Precision::bf16);
  CHECK_THROWS_AS(precision_of(RunConfig{}), Error);
  RunConfig rounding;
  rounding.device = DeviceChoice::cpu;
  rounding.precision = bf16;
  CHECK(make_device(rounding)->working_type() == DType::bf16);
}

TEST_CASE("resume_warnings: another precision than the checkpoint's is named") {
  const TemporaryFolder folder;
  Trained trained(Precision::bf16);
  save(trained, folder, PrecisionChoice::bf16);
  const CheckpointDirectory::Found found = found_in(folder);
  CHECK(resume_warnings(found, PrecisionChoice::bf16).empty());
  const std::vector<std::string> warnings = resume_warnings(found, PrecisionChoice::fp32);
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0] == found.path + ": written in bf16, the run goes on in fp32 (the numbers " +
                           "differ from there on)");
  // One that does not say is not suspected.
  save(trained, folder, PrecisionChoice::automatic);
  CHECK(resume_warnings(found_in(folder), PrecisionChoice::fp32).empty());
}
