// Diagnostics of a step of the golden llama, against PyTorch's numbers.
#include "engine/analysis/step_diagnostics.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "engine/evaluation.h"
#include "golden_depth.h"

using namespace normlab;
using namespace normlab::test;

namespace {

struct Step {
  explicit Step(Precision precision)
      : ops(make_ops(Device::cpu, precision, 1)),
        model(*ops, read_config_json(golden.directory).config,
              {4, golden.length(), Purpose::training}),
        optimizer(model, {OptimizerKind::adam, 0.01, 0.9, 0.999, 1e-12}) {
    load_weights(model, golden.directory, optimizer.masters());
  }

  // One step over all windows of the corpus, in passes of 4.
  LayerDiagnostics run() {
    StreamOptions options;
    options.tokens_per_sequence = golden.length();
    options.shuffled = false;
    TokenStream stream(golden.corpus, options);
    const HostBatch batch = stream.next(9);
    BatchUploader uploader(*ops, 4, golden.length());
    StepState state;
    state.learning_rate = 0.01;
    state.first_moment_correction = 1 - 0.9;
    state.second_moment_correction = 1 - 0.999;
    state.loss_scale = 1.0 / static_cast<double>(batch.target_count);
    ops->set_step_state(state);
    ops->zero_loss();
    StepDiagnostics diagnostics(model, optimizer);
    for (const auto [first, last] : passes_of({0, 9}, 4)) {
      const Batch pass = uploader.upload(batch, first, last - first);
      diagnostics.begin_pass(batch, first, last - first);
      model.forward(pass, Pass::training, &diagnostics);
      model.backward(pass);
    }
    optimizer.step();
    return diagnostics.end();
  }

  GoldenDepth golden{"llama"};
  std::unique_ptr<Ops> ops;
  Model model;
  Optimizer optimizer;
};

}  // namespace

TEST_CASE("diagnostics: variances, angles and gradient norms by layer are PyTorch's") {
  Step step(Precision::fp32);
  const LayerDiagnostics found = step.run();
  const nlohmann::json& expected = step.golden.expected;
  REQUIRE(found.output_variance.size() == 3);
  for (size_t layer = 0; layer < 3; ++layer) {
    CAPTURE(layer);
    CHECK(found.output_variance[layer] ==
          Approx(expected.at("variances")[layer + 1].get<double>()).epsilon(1e-5));
    CHECK(found.angular_distance[layer] ==
          Approx(expected.at("distances")[layer][0].get<double>()).epsilon(1e-5));
    CHECK(found.gradient_norm[layer] ==
          Approx(expected.at("gradient_norms")[layer].get<double>()).epsilon(1e-5));
  }
}

TEST_CASE("diagnostics: Adam's first update moves each weight by the learning rate") {
  const Precision precision = GENERATE(Precision::fp32, Precision::bf16);
  Step step(precision);
  const Tensor masters = step.optimizer.masters();
  std::vector<double> squares(3), counts(3);
  for (const Parameter& parameter : step.model.parameters()) {
    if (parameter.layer < 0) continue;
    const Tensor weights = masters ? parameter.part_of(masters) : parameter.value;
    for (const float weight : download_floats(*step.ops, weights)) {
      squares[static_cast<size_t>(parameter.layer)] += double{weight} * double{weight};
      ++counts[static_cast<size_t>(parameter.layer)];
    }
  }
  const LayerDiagnostics found = step.run();
  for (size_t layer = 0; layer < 3; ++layer) {
    CHECK(found.update_ratio[layer] ==
          Approx(0.01 * std::sqrt(counts[layer] / squares[layer])).epsilon(1e-4));
  }
}
