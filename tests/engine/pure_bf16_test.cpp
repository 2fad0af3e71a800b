// Training in bf16 alone: whole models against torch (tests/golden/make_pure_bf16.py), and what a
// run makes of it.
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "config_text.h"
#include "engine/device.h"
#include "engine/optimizer.h"
#include "engine/plan.h"
#include "engine/weights.h"
#include "tests/golden/bf16_numbers.h"
#include "tests/golden/named_numbers.h"

using namespace normlab;
using namespace normlab::test;
using nlohmann::json;

namespace {

constexpr int64_t kTokens = 7, kVocabulary = 13;

ModelConfig golden_config(bool scaled) {
  ModelConfig config = llama_defaults();
  config.layers = 2;
  config.width = 12;
  config.heads = config.kv_heads = 2;
  config.head_size = 6;
  config.feed_forward = 16;
  config.vocabulary = kVocabulary;
  config.context = kTokens;
  config.norm.epsilon = 1e-6;
  config.norm.placement = scaled ? NormPlacement::lns : NormPlacement::pre;
  return config;
}

std::vector<float> first_numbers(const Parameter& parameter) {
  const std::vector<double> numbers = named_numbers(parameter);
  return {numbers.begin(), numbers.end()};
}

// Numbers that differ.
int64_t differing(const std::vector<float>& one, const std::vector<float>& other) {
  REQUIRE(one.size() == other.size());
  int64_t count = 0;
  for (size_t i = 0; i < one.size(); ++i) count += one[i] != other[i] ? 1 : 0;
  return count;
}

struct Differences {
  double losses = 0;                   // the largest, relative
  int64_t gradients = 0, weights = 0;  // numbers that differ
  int64_t numbers = 0;                 // of all gradients, of all weights
};

// Trains as the golden run did.
class Run {
 public:
  Run(const json& golden, Precision precision)
      : golden_(golden),
        rows_(golden.at("rows").get<int64_t>()),
        ops_(make_ops(Device::cpu, precision, 1)),
        model_(*ops_, golden_config(golden.at("scaled")), {rows_, kTokens, Purpose::training}),
        optimizer_(model_, {.name = OptimizerKind::adam}),
        room_(ops_->allocate(2 * rows_ * kTokens * size_of(DType::i32))) {
    for (const Parameter& parameter : model_.parameters()) {
      upload_floats(*ops_, parameter.value, first_numbers(parameter));
      if (!optimizer_.masters()) continue;
      upload_floats(*ops_, parameter.part_of(optimizer_.masters()), first_numbers(parameter));
    }
  }

  Differences train() {
    Differences found;
    const auto passes = golden_.at("passes").get<int64_t>();
    int64_t pass = 0;
    for (int64_t step = 0; step < golden_.at("steps").get<int64_t>(); ++step) {
      StepState state;
      state.learning_rate = 3e-3;
      state.first_moment_correction = 1 - std::pow(0.9, step + 1);
      state.second_moment_correction = 1 - std::pow(0.999, step + 1);
      state.scored_tokens = rows_ * kTokens;
      state.loss_scale = 1.0 / static_cast<double>(state.scored_tokens * passes);
      ops_->set_step_state(state);
      ops_->zero(model_.gradients());
      for (int64_t i = 0; i < passes; ++i, ++pass) {
        const double loss = loss_of_pass(pass) * static_cast<double>(passes);
        const auto expected = golden_.at("losses")[static_cast<size_t>(pass)].get<double>();
        found.losses = std::max(found.losses, std::fabs(loss / expected - 1));
      }
      if (step == 0) found.gradients = differing_from("gradients");
      optimizer_.step();
    }
    found.weights = differing_from("weights");
    for (const Parameter& parameter : model_.parameters()) {
      found.numbers += parameter.value.elements();
    }
    return found;
  }

 private:
  int64_t differing_from(const std::string& what) {
    int64_t count = 0;
    for (const Parameter& parameter : model_.parameters()) {
      const Tensor tensor = what == "weights" ? parameter.value : parameter.gradient;
      count += differing(download_floats(*ops_, tensor),
                         bf16_numbers(golden_.at(what).at(parameter.name)));
    }
    return count;
  }
  double loss_of_pass(int64_t pass) {
    std::vector<int32_t> both;
    for (const int64_t behind : {0, 1}) {
      for (int64_t row = 0; row < rows_; ++row) {
        const int64_t place = pass * rows_ + row;
        for (int64_t t = behind; t < kTokens + behind; ++t) {
          const int64_t number = 5 * place * place + 3 * t * t + 7 * place * t;
          both.push_back(static_cast<int32_t>(number % kVocabulary));
        }
      }
    }
    const Tensor all(room_.data(), DType::i32, {2 * rows_, kTokens});
    ops_->upload(all, both.data());
    const Batch batch{all.row_slice(0, rows_), all.row_slice(rows_, rows_)};
    ops_->zero_loss();
    model_.forward(batch, Pass::training);
    model_.backward(batch);
    return ops_->download_step_result().loss;
  }

  const json& golden_;
  int64_t rows_;
  std::unique_ptr<Ops> ops_;
  Model model_;
  Optimizer optimizer_;
  Memory room_;
};

}  // namespace

TEST_CASE("pure bf16: losses, gradients and weights of four updates are torch's") {
  std::ifstream file(SOURCE_DIRECTORY "/tests/golden/pure_bf16.json");
  const json all = json::parse(file);
  for (const json& golden : all.at("models")) {
    INFO(golden.at("scaled"));
    const Differences pure = Run(golden, Precision::pure_bf16_forward).train();
    // Where this was written nothing differs; another compiler's sums may round another way.
    CHECK(pure.losses < 0x1p-8);
    CHECK(pure.gradients < pure.numbers / 100);
    CHECK(pure.weights < pure.numbers / 100);
    // What each level leaves out shows.
    const Differences gradients = Run(golden, Precision::pure_bf16_gradients).train();
    const Differences weights = Run(golden, Precision::pure_bf16_weights).train();
    const Differences masters = Run(golden, Precision::bf16).train();
    CHECK(gradients.gradients > pure.numbers / 10);
    CHECK(weights.gradients > pure.numbers / 2);
    CHECK(masters.weights > weights.weights);
  }
}

TEST_CASE("pure bf16: a configuration names a level") {
  const std::vector<std::string> pure = {"run.precision=pure_bf16"};
  CHECK(parse(minimal, pure).run.precision == PrecisionChoice::pure_bf16_forward);
  for (const auto& [word, choice] : {std::pair{"weights", PrecisionChoice::pure_bf16_weights},
                                     {"gradients", PrecisionChoice::pure_bf16_gradients},
                                     {"forward", PrecisionChoice::pure_bf16_forward}}) {
    const std::string level = std::string("run.pure_bf16=") + word;
    const Config config = parse(minimal, {"run.precision=pure_bf16", level});
    CHECK(config.run.precision == choice);
    CHECK(parse_config(to_yaml(config), "b.yaml").run.precision == choice);
    CHECK(override_complaint(level).find("it is a level of run.precision: pure_bf16") !=
          std::string::npos);
  }
  CHECK(complaint(minimal, {"run.precision=pure_bf16", "parallel={reproducible: true}"})
            .find("gradients are summed pass by pass") != std::string::npos);
}

TEST_CASE("pure bf16: the plan knows of no masters") {
  Config masters = parse(minimal, {"run.precision=bf16", "run.device=cpu"});
  Config pure = parse(minimal, {"run.precision=pure_bf16", "run.device=cpu"});
  const RunPlan with = plan_run(masters), without = plan_run(pure);
  CHECK(without.weights_bytes == with.weights_bytes);
  CHECK(without.optimizer_bytes * 3 == with.optimizer_bytes * 2);
  CHECK(without.workspace_bytes > with.workspace_bytes);
}
