#include "engine/ln_free.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "engine/export_check.h"
#include "frozen_model.h"

using namespace normlab;
using namespace normlab::test;

namespace {

constexpr double kScale = 1048576;

double largest_ratio(const std::vector<float>& numbers, const std::vector<float>& expected) {
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i] != 0) worst = std::max<double>(worst, std::abs(numbers[i] / expected[i] - 1));
  }
  return worst;
}

// The stock model's weights and a config.json, with what is ours or without.
std::vector<NormRecord> write_stock(const TemporaryFolder& folder, const ModelConfig& config,
                                    double scale) {
  const std::vector<NormRecord> norms = norms_in_states(config, {0});
  CheckedModel frozen(config, norms), stock(ln_free_config(config, scale));
  fill_ln_free(stock.model, frozen.model, scale);
  write_weights(stock.model, folder.path() + "/model.safetensors");
  ModelDescription description;
  description.config = config;
  description.norms = norms;
  description.form = ModelForm::ln_free;
  description.ln_free_scale = scale;
  folder.write("config.json", config_json(description));
  return norms;
}

}  // namespace

TEST_CASE("ln-free: norms that compute a std with the epsilon s² give the logits of frozen ones") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    for (const double scale : {kScale, 1e6}) {
      const ModelConfig config = small_config(family);
      CheckedModel frozen(config, norms_in_states(config, {0}));
      CheckedModel stock(ln_free_config(config, scale));
      const std::vector<float> expected = logits_of(frozen.model);
      fill_ln_free(stock.model, frozen.model, scale);
      for (const NormSite& site : stock.model.norm_sites()) CHECK(site.state.live());
      // Measured: 6e-7 at most.
      CHECK(difference_of(logits_of(stock.model), expected) < 3e-6);
    }
  }
}

TEST_CASE("ln-free: what is read again has its gains, its σ and the values' weights as before") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    const TemporaryFolder folder;
    const ModelConfig config = small_config(family);
    const std::vector<NormRecord> norms = write_stock(folder, config, kScale);
    const ModelDescription description = read_config_json(folder.path());
    CHECK(description.form == ModelForm::ln_free);
    CHECK(description.ln_free_scale == kScale);
    CHECK(description.config.norm.epsilon == config.norm.epsilon);
    CHECK(description.warnings.empty());
    REQUIRE(description.norms.size() == norms.size());
    for (size_t i = 0; i < norms.size(); ++i) {
      CHECK(same_place(description.norms[i], norms[i]));
      CHECK(description.norms[i].state == norms[i].state);
    }
    CheckedModel read(description.config, description.norms);
    read.model.initialize(5);
    load_weights(read.model, folder.path());
    CheckedModel before(config, norms);
    CHECK(largest_ratio(read.values(), before.values()) < 1e-4);  // of a bias near 0
    for (const char* name : {"layers.1.attention.norm.gain", "layers.1.attention.qkv.weight",
                             "layers.0.mlp.norm.gain", "final.norm.gain"}) {
      INFO(name);
      const auto part = [&](CheckedModel& small) {
        const auto& parameters = small.model.parameters();
        return download_floats(*small.ops, parameters[find_parameter(parameters, name)].value);
      };
      // One rounding on the way out, one on the way back.
      CHECK(largest_ratio(part(read), part(before)) < 1.3e-7);
    }
  }
}

TEST_CASE("ln-free: masters take the weights as they were, and values are rounded from them") {
  const TemporaryFolder folder;
  const ModelConfig config = small_config(Family::gpt2);
  const std::vector<NormRecord> norms = write_stock(folder, config, kScale);
  CheckedModel read(config, norms, Precision::bf16), before(config, norms);
  const int64_t elements = read.model.values().elements();
  const Memory memory = read.ops->allocate(elements * size_of(DType::f32));
  const Tensor masters(memory.data(), DType::f32, {1, elements});
  read.ops->zero(masters);
  load_weights(read.model, folder.path(), masters);
  CHECK(largest_ratio(download_floats(*read.ops, masters), before.values()) < 1e-4);
  CHECK(largest_ratio(read.values(), download_floats(*read.ops, masters)) < 4e-3);
}

TEST_CASE("ln-free: of a published model the gains hold gain/σ, and evaluation is exact") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    const TemporaryFolder folder;
    const ModelConfig config = small_config(family);
    const std::vector<NormRecord> norms = write_stock(folder, config, 1e6);
    // As others write it: the epsilon is all there is.
    auto file = nlohmann::json::parse(config_json({config}));
    file.erase("normlab");
    file[family == Family::gpt2 ? "layer_norm_epsilon" : "rms_norm_eps"] = 1e12;
    folder.write("config.json", file.dump());
    const ModelDescription description = read_config_json(folder.path());
    CHECK(description.form == ModelForm::ln_free);
    CHECK(description.config.norm.epsilon == config.norm.epsilon);
    REQUIRE(description.norms.size() == norms.size());
    for (const NormRecord& norm : description.norms) CHECK(norm.state == NormState{0, 1});
    REQUIRE(description.warnings.size() == 1);
    CHECK(description.warnings[0].find("Training on starts from other gains") != std::string::npos);
    CheckedModel read(description.config, description.norms), before(config, norms);
    load_weights(read.model, folder.path());
    CHECK(difference_of(logits_of(read.model), logits_of(before.model)) < 3e-6);
  }
}
