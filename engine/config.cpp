#include "engine/config.h"

#include <algorithm>
#include <utility>

#include "engine/config_keys.h"
#include "engine/config_names.h"
#include "engine/config_reader.h"
#include "engine/yaml_tree.h"

namespace normlab {
namespace {

constexpr int64_t most_extent = 1'000'000;      // of a model's dimension
constexpr int64_t most_tokens = 2'147'483'647;  // of a vocabulary or a sequence: int32 indices
constexpr int64_t most_steps = 1'000'000'000'000;
constexpr int64_t least_documents = 10;  // as make_grammar_corpus asks

std::string words(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

void read_run(const Section& run, RunConfig& config) {
  run.require("directory", "Add run: {directory: runs/NAME}");
  run.text("directory", config.directory);
  run.integer("seed", config.seed, 0);
  run.choice("device", config.device, device_names);
  run.choice("precision", config.precision, precision_names, {"pure_bf16"});
  run.integer("threads", config.threads, 0, 4096);
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

void read_norm_and_init(const Section& model, ModelConfig& config) {
  Section norm = model.section("norm");
  norm.choice("kind", config.norm.kind, norm_kind_names, {"dyt", "derf"});
  norm.choice("placement", config.norm.placement, placement_names,
              {"deepnorm", "mix", "sandwich", "peri", "lns"});
  norm.number("epsilon", config.norm.epsilon, normal_float);
  Section init = model.section("init");
  init.choice("kind", config.init.kind, init_kind_names, {"depth_scaled", "deepnorm"});
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
  reject_beside_from(model.section("norm"), {"kind", "placement", "epsilon"}, from);
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

// `sequence_length` is read before: it is the default of the context.
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
  read_norm_and_init(model, to);
}

void read_corpus(const Section& data, DataConfig& config) {
  std::vector<std::string> given;
  for (const char* key : {"train", "text", "grammar"}) {
    if (data.has(key)) given.emplace_back(key);
  }
  if (given.size() > 1) {
    throw data.error(
        given[1], "", "data." + given[0] + " is given too, and only one can be",
        "Delete one (or, where it is inherited, write data: {" + given[0] + ": null})");
  }
  for (const char* key : {"train", "text"}) {
    std::vector<std::string>& files = key == std::string("train") ? config.train : config.text;
    if (!data.texts(key, files)) continue;
    if (files.empty()) throw data.error(key, "", "an empty list", "Name a file or a pattern");
    config.corpus = key == std::string("train") ? Corpus::shards : Corpus::text;
  }
  Section grammar = data.section("grammar");
  grammar.integer("documents", config.grammar_documents, least_documents, most_tokens);
}

void read_validation(const Section& data, DataConfig& config) {
  if (!data.has("validation")) return;
  if (config.corpus == Corpus::grammar) {
    throw data.error("validation", "", "the generated corpus brings its own validation documents",
                     "Delete it, or name data.train or data.text");
  }
  std::vector<std::string> names = data.free_keys("validation");
  for (const std::string& name : names) {
    config.validation[name] = data.texts_of("validation", name);
  }
  if (!names.empty() || data.is_map("validation")) return;
  std::vector<std::string> files;
  data.texts("validation", files);
  if (!files.empty()) config.validation["validation"] = files;
}

void read_data(const Section& data, DataConfig& config) {
  read_corpus(data, config);
  read_validation(data, config);
  if (config.corpus != Corpus::shards) {
    config.tokenizer = "bytes";
    config.packing = Packing::concatenated;
  }
  data.text("tokenizer", config.tokenizer);
  if (config.corpus == Corpus::grammar && config.tokenizer != "bytes") {
    throw data.error("tokenizer", config.tokenizer, "the generated corpus is of bytes",
                     "Delete it, or name data.train or data.text");
  }
  data.number("validation_fraction", config.validation_fraction, from_0_below_1);
  if (config.corpus == Corpus::text && !config.validation.empty()) {
    // The writer's 0 passes.
    if (data.has("validation_fraction") && config.validation_fraction != 0) {
      throw data.error("validation_fraction", "",
                       "data.validation is given, so the text is not split",
                       "Delete one of the two");
    }
    config.validation_fraction = 0;
  }
  if (data.has("packing")) {
    data.choice("packing", config.packing.emplace(), packing_names);
  }
  data.integer("sequence_length", config.sequence_length, 1, most_tokens);
  data.boolean("mask_eot_targets", config.mask_eot_targets);
}

void read_batch(const Section& batch, const DataConfig& data, BatchConfig& config) {
  batch.require("tokens_per_step", "Add batch: {tokens_per_step: …, micro_batch: …}");
  batch.require("micro_batch", "Add the number of sequences of one pass");
  batch.integer("tokens_per_step", config.tokens_per_step, 1, most_steps);
  batch.integer("micro_batch", config.micro_batch, 1, most_tokens);
  const int64_t length = data.sequence_length;
  if (config.tokens_per_step % length != 0) {
    int64_t nearest = std::max<int64_t>(1, (config.tokens_per_step + length / 2) / length) * length;
    throw batch.error("tokens_per_step", "",
                      "must be a multiple of data.sequence_length = " + std::to_string(length),
                      "The nearest is " + std::to_string(nearest));
  }
  const int64_t sequences = config.tokens_per_step / length;
  if (config.micro_batch > sequences) {
    throw batch.error("micro_batch", "",
                      "must be <= the " + std::to_string(sequences) +
                          " sequences of a step (batch.tokens_per_step / data.sequence_length)",
                      "Lower it, or raise batch.tokens_per_step");
  }
}

void read_optimizer(const Section& optimizer, OptimizerConfig& config) {
  optimizer.choice("name", config.name, optimizer_names);
  optimizer.require("learning_rate", "Add optimizer: {learning_rate: 1e-3}");
  optimizer.number("learning_rate", config.learning_rate, positive);
  optimizer.numbers("betas", {&config.beta1, &config.beta2}, from_0_below_1);
  optimizer.number("epsilon", config.epsilon, normal_float);
  optimizer.number("weight_decay", config.weight_decay, not_negative);
  optimizer.boolean("decay_embeddings", config.decay_embeddings);
  optimizer.number("gradient_clip", config.gradient_clip, not_negative);
  optimizer.choice("loss_average", config.loss_average, loss_average_names);
}

void read_schedule(const Section& schedule, ScheduleConfig& config) {
  schedule.choice("kind", config.kind, schedule_names);
  schedule.require("total_steps", "Add schedule: {total_steps: …}");
  schedule.integer("total_steps", config.total_steps, 1, most_steps);
  const std::string total = "schedule.total_steps = " + std::to_string(config.total_steps);
  config.stop_step = config.total_steps;
  schedule.integer("stop_step", config.stop_step, 1, most_steps);
  if (config.stop_step > config.total_steps) {
    throw schedule.error("stop_step", "", "must be <= " + total, "Lower it, or leave it out");
  }
  schedule.integer("warmup_steps", config.warmup_steps, 0, most_steps);
  if (config.warmup_steps >= config.total_steps) {
    throw schedule.error("warmup_steps", "", "must be < " + total,
                         "Shorten the warm-up, for example schedule.warmup_steps=0");
  }
  schedule.number("minimum_ratio", config.minimum_ratio, from_0_to_1);
  schedule.number("decay_fraction", config.decay_fraction, above_0_to_1);
  double decay_begin = (1 - config.decay_fraction) * static_cast<double>(config.total_steps);
  if (config.kind == ScheduleKind::wsd && static_cast<double>(config.warmup_steps) > decay_begin) {
    throw schedule.error("warmup_steps", std::to_string(config.warmup_steps),
                         "the decay of wsd begins before the warm-up ends, at step " +
                             std::to_string(static_cast<int64_t>(decay_begin)),
                         "Shorten the warm-up or lower schedule.decay_fraction");
  }
}

void read_the_rest(const Section& root, Config& config) {
  Section evaluation = root.section("evaluation");
  evaluation.integer("every", config.evaluation.every, 0, most_steps);
  evaluation.integer("tokens", config.evaluation.tokens, 1);
  Section checkpoint = root.section("checkpoint");
  checkpoint.integer("every", config.checkpoint.every, 0, most_steps);
  checkpoint.integer("keep", config.checkpoint.keep, 1, most_extent);
  Section parallel = root.section("parallel");
  parallel.boolean("reproducible", config.parallel.reproducible);
  parallel.integer("shards", config.parallel.shards, 1, most_extent);
  if (config.parallel.reproducible && config.parallel.shards > config.sequences_per_step()) {
    throw parallel.error("shards", std::to_string(config.parallel.shards),
                         "must be <= the " + std::to_string(config.sequences_per_step()) +
                             " sequences of a step where parallel.reproducible is on",
                         "Lower it, or raise batch.tokens_per_step");
  }
  root.section("guard").integer("nonfinite_steps", config.guard.nonfinite_steps, 1, most_steps);
}

Config from_tree(YamlNode root, const std::vector<std::string>& overrides) {
  for (const std::string& assignment : overrides) apply_override(root, assignment);
  reject_unknown_keys(root);
  Section sections(&root, "", root.place);
  Config config;
  read_run(sections.section("run"), config.run);
  read_data(sections.section("data"), config.data);
  read_model(sections.section("model"), config);
  read_batch(sections.section("batch"), config.data, config.batch);
  read_optimizer(sections.section("optimizer"), config.optimizer);
  read_schedule(sections.section("schedule"), config.schedule);
  read_the_rest(sections, config);
  return config;
}

}  // namespace

Config load_config(const std::string& path, const std::vector<std::string>& overrides) {
  return from_tree(load_yaml(path), overrides);
}

Config parse_config(const std::string& yaml, const std::string& name,
                    const std::vector<std::string>& overrides) {
  return from_tree(resolve_inherit(parse_yaml(yaml, name), name), overrides);
}

}  // namespace normlab
