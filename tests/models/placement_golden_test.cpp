// Every placement of norms against PyTorch in float64 (tests/golden/make_placements.py), and
// against the layers of github.com/lmsdss/LayerNorm-Scaling (make_reference_placements.py).
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "engine/config_names.h"
#include "tests/golden/named_numbers.h"
#include "tests/models/tiny.h"

namespace normlab {
namespace {

using nlohmann::json;

constexpr int64_t kBatch = 2, kTokens = 7;

ModelConfig config_of(const json& described) {
  ModelConfig config = llama_defaults();
  config.layers = described.at("layers").get<int64_t>();
  config.width = 12;
  config.heads = config.kv_heads = 2;
  config.head_size = 6;
  config.feed_forward = 16;
  config.vocabulary = 13;
  config.context = kTokens;
  const auto word = [&](const char* key, const std::string& otherwise) {
    return described.value(key, otherwise);
  };
  NormConfig& norm = config.norm;
  norm.epsilon = 1e-2;
  norm.kind = choice_of(word("kind", ""), norm_kind_names, NormKind::layernorm);
  norm.placement = choice_of(word("placement", ""), placement_names, NormPlacement::none);
  norm.post_layers = described.value("post_layers", int64_t{1});
  norm.lns_position =
      choice_of(word("lns_position", "after_norm"), lns_position_names, LnsPosition::after_norm);
  norm.lns_sublayers =
      choice_of(word("lns_sublayers", "both"), lns_sublayers_names, LnsSublayers::both);
  norm.branch = choice_of(word("branch", "none"), branch_scale_names, BranchScale::none);
  norm.gpas = described.value("gpas", false);
  return config;
}

HostBatch golden_batch() {
  HostBatch host{kBatch, kTokens, {}, {}};
  for (int32_t b = 0; b < kBatch; ++b) {
    for (int32_t t = 0; t < kTokens; ++t) {
      host.ids.push_back((5 * b + 3 * t + t * t) % 13);
      host.targets.push_back((7 * b + 2 * t + 1) % 13);
    }
  }
  return host;
}

// What the layers leave to the last token of the last sequence, layer by layer.
class Stream final : public Probe {
 public:
  explicit Stream(const TinyModel& tiny) : tiny_(tiny) {}
  void activation(ProbeSite site, int64_t, Tensor tensor, int64_t) override {
    if (site == ProbeSite::residual_post) {
      rows.push_back(tiny_.read(tensor.row_slice(tensor.rows() - 1, 1)));
    }
  }

  std::vector<std::vector<double>> rows;

 private:
  const TinyModel& tiny_;
};

// What a gradient's error is measured by: its norm. A single number, a norm's slope or shift, is a
// sum over all rows and columns whose terms may cancel, as those of its norm's gain do not.
double size_of_gradient(const json& gradients, const std::string& name) {
  const double own = gradients.at(name).at(0).get<double>();
  const std::string gain = name.substr(0, name.rfind('.')) + ".gain";
  const bool single = name.ends_with(".slope") || name.ends_with(".shift");
  return single ? std::max(own, gradients.at(gain).at(0).get<double>()) : own;
}

void check_case(Ops& ops, const json& golden, double bound) {
  TinyModel tiny(ops, config_of(golden.at("case")), training(kBatch, kTokens));
  for (const Parameter& parameter : tiny.model.parameters()) {
    tiny.write(parameter.value, test::named_numbers(parameter));
  }
  const HostBatch host = golden_batch();
  CHECK(relative_error(tiny.logits(host), golden.at("logits").get<std::vector<double>>()) < bound);
  ops.set_step_state({.loss_scale = 1.0 / (kBatch * kTokens)});
  tiny.zero_gradients();
  Stream stream(tiny);
  tiny.backward(host, Pass::training, &stream);
  const json after_layers = golden.value("stream", json::array());
  for (size_t layer = 0; layer < after_layers.size(); ++layer) {
    const auto expected = after_layers[layer].get<std::vector<double>>();
    CHECK(relative_error(stream.rows.at(layer), expected) < bound);
  }
  CHECK(tiny.model.parameters().size() == golden.at("gradients").size());
  for (const Parameter& parameter : tiny.model.parameters()) {
    INFO(parameter.name);
    const std::vector<double> gradient = tiny.read(parameter.gradient);
    double squares = 0;
    for (const double g : gradient) squares += g * g;
    const auto expected = golden.at("gradients").at(parameter.name).get<std::vector<double>>();
    REQUIRE(expected.size() == 2);
    const double size = size_of_gradient(golden.at("gradients"), parameter.name);
    CHECK(std::abs(std::sqrt(squares) - expected[0]) < bound * size);
    CHECK(std::abs(gradient[0] - expected[1]) < bound * size);
  }
}

void check_file(const char* path, size_t cases) {
  std::ifstream file(path);
  const json all = json::parse(file);
  REQUIRE(all.size() == cases);
  const auto exact = double_precision();
  const auto single = single_precision();
  for (const json& golden : all) {
    INFO(golden.at("case").dump());
    check_case(*exact, golden, 1e-11);
    check_case(*single, golden, 2e-5);
  }
}

}  // namespace

TEST_CASE("placements: logits and gradients are PyTorch's in float64") {
  check_file(SOURCE_DIRECTORY "/tests/golden/placements.json", 27);
}

TEST_CASE("placements: streams, logits and gradients are those of the reference's own layers") {
  check_file(SOURCE_DIRECTORY "/tests/golden/reference_placements.json", 9);
}

}  // namespace normlab
