// Placements of norms in configurations, files, exports and recipes.
#include <cmath>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "config_text.h"
#include "engine/config_names.h"
#include "engine/export.h"
#include "engine/export_check.h"
#include "engine/files.h"
#include "engine/plan.h"
#include "frozen_model.h"

using namespace normlab;
using namespace normlab::test;

namespace {

bool contains(const std::string& text, const std::string& part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

bool same_norms(const NormConfig& a, const NormConfig& b) {
  return a.kind == b.kind && a.placement == b.placement && a.epsilon == b.epsilon &&
         a.post_layers == b.post_layers && a.lns_position == b.lns_position &&
         a.lns_sublayers == b.lns_sublayers && a.branch == b.branch && a.gpas == b.gpas;
}

// Configurations between which every field of NormConfig changes.
std::vector<NormConfig> all_norms() {
  std::vector<NormConfig> norms;
  for (const auto& [placement, name] : placement_names) norms.push_back({.placement = placement});
  for (const auto& [position, name] : lns_position_names) {
    norms.push_back({.placement = NormPlacement::lns, .lns_position = position});
  }
  for (const auto& [sublayers, name] : lns_sublayers_names) {
    norms.push_back({.placement = NormPlacement::lns, .lns_sublayers = sublayers});
  }
  norms.push_back({.placement = NormPlacement::mix, .post_layers = 2});
  norms.push_back({.branch = BranchScale::layerscale});
  norms.push_back({.placement = NormPlacement::sandwich, .branch = BranchScale::skipinit});
  norms.push_back({.gpas = true});
  norms.push_back({.kind = NormKind::dyt});
  norms.push_back({.kind = NormKind::derf, .placement = NormPlacement::peri});
  return norms;
}

ModelConfig with_norm(Family family, const NormConfig& norm) {
  ModelConfig config = small_config(family);
  config.layers = 3;
  config.norm = norm;
  if (norm.kind == NormKind::layernorm && family == Family::llama) {
    config.norm.kind = NormKind::rmsnorm;
  }
  return config;
}

std::vector<float> logits_in(const std::string& directory) {
  const ModelDescription description = read_config_json(directory);
  CheckedModel read(description.config, description.norms);
  load_weights(read.model, directory);
  set_norm_states(read.model, description.norms);
  return logits_of(read.model);
}

// A directory with a model of that configuration, and what an export of it says.
struct Exported {
  explicit Exported(const ModelConfig& config) { write_model(folder, config, {}); }
  std::string complaint() {
    try {
      std::vector<std::string> warnings;
      ExportOptions options;
      options.out = out();
      difference = export_model(folder.path(), options, warnings);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::input);
      return error.what();
    }
    return "";
  }
  std::string out() const { return room.path() + "/plain"; }

  TemporaryFolder folder, room;
  double difference = 1;
};

}  // namespace

TEST_CASE("placements: config.json and the weights beside it give the same model again") {
  for (const NormConfig& norm : all_norms()) {
    for (const Family family : {Family::gpt2, Family::llama}) {
      const ModelConfig config = with_norm(family, norm);
      INFO(name_of(norm.placement, placement_names));
      TemporaryFolder folder;
      write_model(folder, config, {});
      const ModelDescription read = read_config_json(folder.path());
      CHECK(same_norms(read.config.norm, config.norm));
      CheckedModel model(config);
      scatter(model.model);
      CHECK(difference_of(logits_in(folder.path()), logits_of(model.model)) == 0);
    }
  }
}

TEST_CASE("placements: what YAML says is what is resolved, written and read again") {
  const std::string lns = minimal + "data: {sequence_length: 16}\n";
  const Config config =
      parse(lns, {"model.norm.placement=lns", "model.norm.lns_position=after_sublayer",
                  "model.norm.lns_sublayers=mlp", "model.norm.branch=layerscale",
                  "model.norm.branch_init=0.25", "model.norm.gpas=true"});
  CHECK(config.model.norm.lns_position == LnsPosition::after_sublayer);
  CHECK(config.model.norm.lns_sublayers == LnsSublayers::mlp);
  CHECK(config.model.norm.branch_init == 0.25);
  CHECK(same_config(parse(to_yaml(config)), config));
  const Config mix = parse(lns, {"model.norm.placement=mix", "model.norm.post_layers=2",
                                 "model.norm.kind=derf", "model.norm.slope_init=0.75"});
  CHECK(mix.model.norm.post_layers == 2);
  CHECK(mix.model.norm.slope_init == 0.75);
  CHECK(same_config(parse(to_yaml(mix)), mix));
}

TEST_CASE("placements: DeepNorm brings its initialisation, unless another is asked for") {
  CHECK(parse(minimal, {"model.norm.placement=deepnorm"}).model.init.kind == InitKind::deepnorm);
  CHECK(parse(minimal, {"model.norm.placement=deepnorm_reference"}).model.init.kind ==
        InitKind::deepnorm_reference);
  CHECK(
      parse(minimal, {"model.norm.placement=deepnorm", "model.init.kind=normal"}).model.init.kind ==
      InitKind::normal);
}

TEST_CASE("placements: what does not go together is an error that says why") {
  CHECK(contains(override_complaint("model.norm.post_layers=1"), "it belongs to placement: mix"));
  CHECK(contains(override_complaint("model.norm.lns_position=after_norm"),
                 "it belongs to placement: lns, and this model has pre"));
  CHECK(contains(override_complaint("model.norm.branch_init=1"), "no learnt factor"));
  CHECK(contains(override_complaint("model.norm.slope_init=1"), "only dyt and derf"));
  CHECK(contains(complaint(minimal, {"model.norm.placement=mix", "model.norm.post_layers=3"}),
                 "model.norm.post_layers = 3"));
  CHECK(contains(complaint(minimal, {"model.norm.placement=lns", "model.norm.kind=dyt",
                                     "model.norm.lns_position=before_norm"}),
                 "their slope's own"));
}

TEST_CASE("placements: the stds at the start are those of the papers") {
  ModelConfig config = small_config(Family::llama);
  config.layers = 8;
  const auto parameter = [&](const std::string& name) {
    const std::vector<Parameter> list = parameter_list(config);
    return list[static_cast<size_t>(find_parameter(list, name))];
  };
  config.init.kind = InitKind::depth_scaled;
  CHECK(parameter("layers.3.mlp.out.weight").std == Approx(config.init.std / std::sqrt(8.0)));
  CHECK(parameter("layers.3.mlp.in.weight").std == config.init.std);
  for (const auto& [kind, power] :
       {std::pair{InitKind::deepnorm, -0.25}, {InitKind::deepnorm_reference, 0.25}}) {
    config.init.kind = kind;
    const double gain = std::pow(8.0 * 8, power);
    // Width 16, 4 heads of 4 over 2, feed_forward 23.
    const Parameter qkv = parameter("layers.2.attention.qkv.weight");
    CHECK(qkv.std == Approx(std::sqrt(2.0 / (16 + 16))));
    CHECK(qkv.last_rows == 16 + 8);
    CHECK(qkv.last_std == Approx(gain * std::sqrt(2.0 / (8 + 16))));
    CHECK(parameter("layers.2.attention.out.weight").std == Approx(gain * std::sqrt(2.0 / 32)));
    CHECK(parameter("layers.2.mlp.in.weight").std == Approx(gain * std::sqrt(2.0 / (23 + 16))));
    CHECK(parameter("layers.2.mlp.out.weight").std == Approx(gain * std::sqrt(2.0 / (23 + 16))));
    CHECK(parameter("head.weight").std == config.init.std);
  }
  config.norm.branch = BranchScale::skipinit;
  CHECK(parameter("layers.2.mlp.branch_scale").start == Approx(1 / std::sqrt(8.0)));
  config.norm.branch = BranchScale::layerscale;
  CHECK(parameter("layers.2.mlp.branch_scale").start == 0.1);
  config.norm.branch_init = 0.001;
  CHECK(parameter("layers.2.mlp.branch_scale").start == 0.001);
}

TEST_CASE("placements: LayerNorm Scaling and factors of branches are exported to plain models") {
  std::vector<NormConfig> foldable = {
      {.placement = NormPlacement::lns},
      {.placement = NormPlacement::lns, .lns_sublayers = LnsSublayers::mlp},
      {.placement = NormPlacement::lns, .lns_position = LnsPosition::after_sublayer},
      {.branch = BranchScale::layerscale},
      {.placement = NormPlacement::lns, .branch = BranchScale::skipinit}};
  for (const NormConfig& norm : foldable) {
    for (const Family family : {Family::gpt2, Family::llama}) {
      Exported exported(with_norm(family, norm));
      CHECK(exported.complaint() == "");
      CHECK(exported.difference < 3e-6);
      const ModelDescription plain = read_config_json(exported.out());
      CHECK(beyond_plain(plain.config).empty());
      CHECK(difference_of(logits_in(exported.out()), logits_in(exported.folder.path())) < 3e-6);
      const std::string type = family == Family::gpt2 ? "gpt2" : "llama";
      CHECK(contains(read_file(exported.out() + "/config.json"), "\"model_type\": \"" + type));
    }
  }
}

TEST_CASE("placements: what no plain model computes is refused with the reason") {
  const std::pair<NormConfig, const char*> refused[] = {
      {{.placement = NormPlacement::deepnorm}, "norms in the place \"deepnorm\""},
      {{.placement = NormPlacement::mix}, "norms in the place \"mix\""},
      {{.placement = NormPlacement::lns, .lns_position = LnsPosition::after_residual},
       "norms in the place \"lns\""},
      {{.placement = NormPlacement::sandwich, .branch = BranchScale::layerscale},
       "learnt factors of its branches"},
      {{.gpas = true}, "gates on its residual stream"},
      {{.kind = NormKind::dyt}, "norms of the kind dyt"}};
  for (const auto& [norm, reason] : refused) {
    CHECK(contains(Exported(with_norm(Family::llama, norm)).complaint(), reason));
  }
}

TEST_CASE("recipes: the pre-training runs of the Curse of Depth have its models and steps") {
  struct Published {
    const char* size;
    int64_t parameters, steps, warmup;
    double learning_rate;
    int64_t post_layers;
  };
  const Published all[] = {{"60m", 58'073'600, 10'000, 1'000, 1e-3, 2},
                           {"130m", 134'105'856, 20'000, 2'000, 1e-3, 3},
                           {"250m", 247'370'496, 40'000, 4'000, 1e-3, 6},
                           {"350m", 367'969'280, 60'000, 6'000, 5e-4, 6},
                           {"1b", 1'339'082'752, 89'080, 1'000, 5e-4, 6}};
  const std::pair<const char*, NormPlacement> placements[] = {{"pre", NormPlacement::pre},
                                                              {"post", NormPlacement::post},
                                                              {"deepnorm", NormPlacement::deepnorm},
                                                              {"mix", NormPlacement::mix},
                                                              {"lns", NormPlacement::lns}};
  for (const Published& run : all) {
    for (const auto& [name, placement] : placements) {
      INFO(run.size << " " << name);
      const Config config = load_config(
          std::string(SOURCE_DIRECTORY) + "/tools/recipes/llama-" + run.size + "-" + name + ".yaml",
          {});
      CHECK(config.model.norm.placement == placement);
      CHECK(parameter_count(config.model) == run.parameters);
      CHECK(config.schedule.stop_step == run.steps);
      CHECK(config.schedule.warmup_steps == run.warmup);
      CHECK(config.optimizer.learning_rate == run.learning_rate);
      CHECK(config.optimizer.name == OptimizerKind::adam);
      CHECK(config.optimizer.loss_average == LossAverage::micro_batch);
      CHECK(config.batch.tokens_per_step == 512 * 256);
      CHECK(config.data.packing == Packing::padded);
      if (placement == NormPlacement::mix) {
        CHECK(config.model.norm.post_layers == run.post_layers);
      }
    }
  }
}
