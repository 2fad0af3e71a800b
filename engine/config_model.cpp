#include "engine/config_model.h"

#include <algorithm>
#include <utility>

#include "engine/config_names.h"

namespace normlab {
namespace {

std::string words(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

ModelConfig of_size(const Section& model, Family family, const std::string& size) {
  std::vector<std::string> sizes;
  switch (family) {
    case Family::gpt2:
      sizes = gpt2_sizes();
      break;
    case Family::llama:
      sizes = llama_sizes();
      break;
  }
  if (std::find(sizes.begin(), sizes.end(), size) == sizes.end()) {
    throw model.error(
        "size", size,
        std::string("no size of ") + name_of(family, family_names) + "; there are " + words(sizes),
        "Choose one of them, or give layers, width and heads");
  }
  switch (family) {
    case Family::gpt2:
      return gpt2_config(size);
    case Family::llama:
      return llama_config(size);
  }
  return {};
}

ModelConfig defaults_of(Family family) {
  switch (family) {
    case Family::gpt2:
      return gpt2_defaults();
    case Family::llama:
      return llama_defaults();
  }
  return {};
}

int64_t default_feed_forward(const ModelConfig& config) {
  switch (config.activation) {
    case Activation::gelu:
      return 4 * config.width;
    // 8/3 of the width, up to the next multiple of 64: as many parameters as GELU's 4 has.
    case Activation::swiglu:
      return (8 * config.width + 191) / 192 * 64;
  }
  return 0;
}

// A size decides all dimensions: another number beside it would make a model that is neither.
void check_dimensions(const Section& model, const std::string& size, const ModelConfig& config) {
  const std::pair<const char*, int64_t> dimensions[] = {
      {"layers", config.layers},       {"width", config.width},
      {"heads", config.heads},         {"kv_heads", config.kv_heads},
      {"head_size", config.head_size}, {"feed_forward", config.feed_forward}};
  std::string first, why, nulls;
  for (const auto& [key, decided] : dimensions) {
    int64_t given = decided;
    model.integer(key, given, 1, most_extent);
    if (given == decided) continue;
    nulls += std::string(" model.") + key + "=null";
    if (!first.empty()) continue;
    first = key;
    why = "model.size = " + size + " has " + std::to_string(decided);
  }
  if (first.empty()) return;
  throw model.error(first, "", why,
                    "Delete one of the two (from the command line, the numbers with" + nulls + ")");
}

// kv_heads, head_size and feed_forward follow from width and heads where they are not given.
void read_dimensions(const Section& model, ModelConfig& config) {
  for (const char* key : {"layers", "width", "heads"}) {
    model.require(key, "Give it, or model.size, or model.from");
  }
  model.integer("layers", config.layers, 1, most_extent);
  model.integer("width", config.width, 1, most_extent);
  model.integer("heads", config.heads, 1, most_extent);
  config.kv_heads = config.heads;
  model.integer("kv_heads", config.kv_heads, 1, most_extent);
  if (config.heads % config.kv_heads != 0) {
    throw model.error("kv_heads", std::to_string(config.kv_heads),
                      "must divide model.heads = " + std::to_string(config.heads),
                      "Choose a divisor");
  }
  if (!model.integer("head_size", config.head_size, 1, most_extent)) {
    if (config.width % config.heads != 0) {
      throw model.error("width", "",
                        "must be a multiple of model.heads = " + std::to_string(config.heads),
                        "Change one of the two, or give model.head_size");
    }
    config.head_size = config.width / config.heads;
  }
  if (!model.integer("feed_forward", config.feed_forward, 1, most_extent)) {
    config.feed_forward = default_feed_forward(config);
  }
}

// What positions and family ask of the head size, with the key to blame.
void check_head_size(const Section& model, const ModelConfig& config) {
  const std::string key = model.has("head_size") ? "head_size"
                          : model.has("heads")   ? "heads"
                                                 : "width";
  const std::string value = std::to_string(config.head_size);
  if (config.positions == Positions::rope && config.head_size % 2 != 0) {
    throw model.error(key, value,
                      "head size " + value + ": rotary positions turn pairs, so it must be even",
                      "Choose an even head size");
  }
  if (config.family == Family::gpt2 && config.head_size * config.heads != config.width) {
    throw model.error(key, value, "GPT-2's head size is width / heads",
                      "Leave model.head_size out, or take model.family: llama");
  }
  if (config.family == Family::gpt2 && config.kv_heads != config.heads) {
    throw model.error("kv_heads", std::to_string(config.kv_heads),
                      "GPT-2 has as many key and value heads as heads",
                      "Leave it out, or take model.family: llama");
  }
}

// What one placement alone has, and which is given beside another.
void reject_of_another(const Section& norm, const NormConfig& config) {
  const auto reject = [&](const std::string& key, NormPlacement placement) {
    if (!norm.has(key) || config.placement == placement) return;
    throw norm.error(key, "",
                     std::string("it belongs to placement: ") +
                         name_of(placement, placement_names) + ", and this model has " +
                         name_of(config.placement, placement_names),
                     "Delete one of the two");
  };
  reject("post_layers", NormPlacement::mix);
  reject("lns_position", NormPlacement::lns);
  reject("lns_sublayers", NormPlacement::lns);
  if (norm.has("branch_init") && config.branch == BranchScale::none) {
    throw norm.error("branch_init", "", "branches have no learnt factor",
                     "Delete it, or write branch: layerscale or skipinit");
  }
  if (norm.has("slope_init") && !is_elementwise(config.kind)) {
    throw norm.error("slope_init", "", "only dyt and derf have a slope", "Delete it");
  }
}

void read_norm(const Section& norm, ModelConfig& config) {
  NormConfig& to = config.norm;
  norm.choice("kind", to.kind, norm_kind_names);
  norm.choice("placement", to.placement, placement_names);
  norm.number("epsilon", to.epsilon, normal_float);
  norm.integer("post_layers", to.post_layers, 0, config.layers);
  norm.choice("lns_position", to.lns_position, lns_position_names);
  norm.choice("lns_sublayers", to.lns_sublayers, lns_sublayers_names);
  norm.choice("branch", to.branch, branch_scale_names);
  norm.number("branch_init", to.branch_init, positive);
  norm.boolean("gpas", to.gpas);
  norm.number("slope_init", to.slope_init, positive);
  reject_of_another(norm, to);
  if (is_elementwise(to.kind) && to.lns_position == LnsPosition::before_norm) {
    throw norm.error("lns_position", "before_norm",
                     "a factor before dyt or derf is their slope's own", "Choose another position");
  }
}

// DeepNorm is its placement and its initialisation.
InitKind default_init(const ModelConfig& config) {
  if (config.norm.placement == NormPlacement::deepnorm) return InitKind::deepnorm;
  if (config.norm.placement == NormPlacement::deepnorm_reference) {
    return InitKind::deepnorm_reference;
  }
  return config.init.kind;
}

void read_init(const Section& init, ModelConfig& config) {
  config.init.kind = default_init(config);
  init.choice("kind", config.init.kind, init_kind_names);
  init.number("std", config.init.std, positive);
  init.number("embedding_std", config.init.embedding_std, positive);
}

void reject_beside_from(const Section& section, const std::vector<std::string>& keys,
                        const std::string& from) {
  for (const std::string& key : keys) {
    if (!section.has(key)) continue;
    throw section.error(key, "", "model.from = " + from + " decides it", "Delete one of the two");
  }
}

void read_model_from(const Section& model, Config& config) {
  std::string from;
  model.text("from", from);
  config.model_from = from;
  reject_beside_from(model,
                     {"size", "layers", "width", "heads", "kv_heads", "head_size", "feed_forward",
                      "vocabulary", "context", "tie_embeddings", "biases", "rope_base"},
                     from);
  reject_beside_from(model.section("norm"),
                     {"kind", "placement", "epsilon", "post_layers", "lns_position",
                      "lns_sublayers", "branch", "branch_init", "gpas", "slope_init"},
                     from);
  reject_beside_from(model.section("init"), {"kind", "std", "embedding_std"}, from);
  Family family = Family::gpt2;
  if (model.choice("family", family, family_names)) {
    config.model_from_family = family;
    config.model = defaults_of(family);
  }
  model.number("dropout", config.model.dropout, from_0_below_1);
}

// Only what the families' files have names for.
void read_biases(const Section& model, ModelConfig& to) {
  model.choice("biases", to.biases, biases_names);
  const bool of_gpt2 = to.biases == Biases::all;
  if (of_gpt2 == (to.family == Family::gpt2)) return;
  throw model.error("biases", name_of(to.biases, biases_names),
                    of_gpt2 ? "LLaMA has none, or qkv as Qwen2 has" : "GPT-2 has all", "Delete it");
}

}  // namespace

void read_model(const Section& model, Config& config) {
  if (model.has("from")) {
    read_model_from(model, config);
    return;
  }
  model.require("family", "Write model: {family: gpt2, …} or {family: llama, …}");
  Family family = Family::gpt2;
  model.choice("family", family, family_names);
  bool has_size = model.text("size", config.model_size);
  ModelConfig& to = config.model;
  to = has_size ? of_size(model, family, config.model_size) : defaults_of(family);
  if (has_size) {
    check_dimensions(model, config.model_size, to);
  } else {
    read_dimensions(model, to);
  }
  check_head_size(model, to);
  model.integer("vocabulary", to.vocabulary, 0, most_tokens);
  if (!model.integer("context", to.context, 1, most_tokens) && !has_size) {
    to.context = config.data.sequence_length;
  }
  if (to.context < config.data.sequence_length) {
    throw model.error(
        "context", std::to_string(to.context),
        "must be >= data.sequence_length = " + std::to_string(config.data.sequence_length),
        "Write a larger context or a shorter sequence");
  }
  model.number("dropout", to.dropout, from_0_below_1);
  model.boolean("tie_embeddings", to.tie_embeddings);
  read_biases(model, to);
  if (to.positions == Positions::learned && model.has("rope_base")) {
    throw model.error("rope_base", "", "GPT-2 learns its positions", "Delete it");
  }
  model.number("rope_base", to.rope_base, positive);
  read_norm(model.section("norm"), to);
  read_init(model.section("init"), to);
}

}  // namespace normlab
