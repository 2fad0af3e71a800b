#include "engine/config.h"

#include <algorithm>
#include <utility>

#include "engine/config_keys.h"
#include "engine/config_model.h"
#include "engine/config_names.h"
#include "engine/config_reader.h"
#include "engine/config_removal.h"
#include "engine/yaml_tree.h"

namespace normlab {
namespace {

constexpr int64_t most_steps = 1'000'000'000'000;
constexpr int64_t least_documents = 10;  // as make_grammar_corpus asks

void read_precision(const Section& run, PrecisionChoice& precision) {
  constexpr std::array<ChoiceName<PrecisionChoice>, 4> names = {
      {{PrecisionChoice::automatic, "auto"},
       {PrecisionChoice::fp32, "fp32"},
       {PrecisionChoice::bf16, "bf16"},
       {PrecisionChoice::pure_bf16_forward, "pure_bf16"}}};
  run.choice("precision", precision, names);
  if (run.has("pure_bf16") && precision != PrecisionChoice::pure_bf16_forward) {
    throw run.error("pure_bf16", "",
                    "it is a level of run.precision: pure_bf16, which is not asked",
                    "Delete it, or set run.precision: pure_bf16");
  }
  run.choice("pure_bf16", precision, pure_bf16_names);
}

void read_run(const Section& run, RunConfig& config) {
  run.require("directory", "Add run: {directory: runs/NAME}");
  run.text("directory", config.directory);
  run.integer("seed", config.seed, 0);
  run.choice("device", config.device, device_names);
  read_precision(run, config.precision);
  run.integer("threads", config.threads, 0, 4096);
}

void read_corpus(const Section& data, DataConfig& config) {
  std::vector<std::string> given;
  for (const char* key : {"train", "text", "prompts", "grammar"}) {
    if (data.has(key)) given.emplace_back(key);
  }
  if (given.size() > 1) {
    throw data.error(
        given[1], "", "data." + given[0] + " is given too, and only one can be",
        "Delete one (or, where it is inherited, write data: {" + given[0] + ": null})");
  }
  const auto read_files = [&](const char* key, Corpus corpus, std::vector<std::string>& files) {
    if (!data.texts(key, files)) return;
    if (files.empty()) throw data.error(key, "", "an empty list", "Name a file or a pattern");
    config.corpus = corpus;
  };
  read_files("train", Corpus::shards, config.train);
  read_files("text", Corpus::text, config.text);
  read_files("prompts", Corpus::prompts, config.prompts);
  Section grammar = data.section("grammar");
  grammar.integer("documents", config.grammar_documents, least_documents, most_tokens);
}

void read_roles(const Section& data, DataConfig& config) {
  const Section roles = data.section("roles");
  if (roles.is_given() && config.corpus != Corpus::prompts) {
    throw data.error("roles", "", "they are of the chats of data.prompts, which is not given",
                     "Delete it, or name data.prompts");
  }
  roles.text("system", config.roles.system);
  roles.text("user", config.roles.user);
  roles.text("assistant", config.roles.assistant);
}

// What is so where the recipe does not say it.
void set_data_defaults(DataConfig& config) {
  switch (config.corpus) {
    case Corpus::shards:
      return;  // the set says it
    case Corpus::prompts:
      config.packing = Packing::padded;
      return;
    case Corpus::text:
    case Corpus::grammar:
      config.tokenizer = "bytes";
      config.packing = Packing::concatenated;
  }
}

void read_validation(const Section& data, DataConfig& config) {
  if (!data.has("validation")) return;
  if (config.corpus == Corpus::grammar) {
    throw data.error("validation", "", "the generated corpus brings its own validation documents",
                     "Delete it, or name data.train, data.text or data.prompts");
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
  read_roles(data, config);
  set_data_defaults(config);
  data.text("tokenizer", config.tokenizer);
  if (config.corpus == Corpus::prompts && config.tokenizer.empty()) {
    throw data.error("prompts", "", "nothing says how they become tokens",
                     "Name the model's tokenizer as data.tokenizer: gpt2:DIR, sentencepiece:FILE "
                     "or bytes");
  }
  if (config.corpus == Corpus::grammar && config.tokenizer != "bytes") {
    throw data.error("tokenizer", config.tokenizer, "the generated corpus is of bytes",
                     "Delete it, or name data.train, data.text or data.prompts");
  }
  data.number("validation_fraction", config.validation_fraction, from_0_below_1);
  const bool is_split = config.corpus == Corpus::text || config.corpus == Corpus::prompts;
  if (is_split && !config.validation.empty()) {
    // The writer's 0 passes.
    if (data.has("validation_fraction") && config.validation_fraction != 0) {
      throw data.error("validation_fraction", "",
                       "data.validation is given, so nothing is split off for it",
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
  batch.choice("recompute", config.recompute, recompute_names);
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

// One of the two alone says nothing, and each process would train by itself.
std::optional<JobPlace> read_place(const Section& parallel) {
  constexpr int64_t kMostRanks = 1 << 20;
  int64_t rank = 0, ranks = 1;
  const bool has_rank = parallel.integer("rank", rank, 0, kMostRanks - 1);
  const bool has_ranks = parallel.integer("ranks", ranks, 1, kMostRanks);
  int64_t local_rank = rank;
  const bool has_local_rank = parallel.integer("local_rank", local_rank, 0, kMostRanks - 1);
  if (!has_rank && !has_ranks && !has_local_rank) return std::nullopt;
  parallel.require("rank", "Give rank and ranks, or neither");
  parallel.require("ranks", "Give rank and ranks, or neither");
  if (rank >= ranks) {
    throw parallel.error("rank", std::to_string(rank),
                         "must be < ranks = " + std::to_string(ranks) + ": ranks count from 0",
                         "Lower it, or raise parallel.ranks");
  }
  JobPlace place;
  place.rank = static_cast<int>(rank);
  place.ranks = static_cast<int>(ranks);
  place.local_rank = static_cast<int>(local_rank);
  place.local_ranks = ranks == 1 ? 1 : 0;
  place.said_by = "parallel.rank and parallel.ranks";
  return place;
}

void read_the_rest(const Section& root, Config& config) {
  Section evaluation = root.section("evaluation");
  evaluation.integer("every", config.evaluation.every, 0, most_steps);
  evaluation.integer("tokens", config.evaluation.tokens, 1);
  evaluation.integer("reference_batch", config.evaluation.reference_batch, 0, most_tokens);
  Section checkpoint = root.section("checkpoint");
  checkpoint.integer("every", config.checkpoint.every, 0, most_steps);
  checkpoint.integer("keep", config.checkpoint.keep, 1, most_extent);
  checkpoint.number("seconds_before_end", config.checkpoint.seconds_before_end, not_negative);
  Section parallel = root.section("parallel");
  parallel.boolean("reproducible", config.parallel.reproducible);
  if (config.parallel.reproducible && is_pure_bf16(config.run.precision)) {
    throw parallel.error("reproducible", "true",
                         "run.precision is pure_bf16, whose gradients are summed pass by pass",
                         "Leave one of the two out");
  }
  parallel.integer("shards", config.parallel.shards, 1, most_extent);
  if (config.parallel.reproducible && config.parallel.shards > config.sequences_per_step()) {
    throw parallel.error("shards", std::to_string(config.parallel.shards),
                         "must be <= the " + std::to_string(config.sequences_per_step()) +
                             " sequences of a step where parallel.reproducible is on",
                         "Lower it, or raise batch.tokens_per_step");
  }
  parallel.integer("zero_stage", config.parallel.zero_stage, 0, 1);
  parallel.number("timeout_seconds", config.parallel.timeout_seconds, positive);
  config.parallel.place = read_place(parallel);
  root.section("guard").integer("nonfinite_steps", config.guard.nonfinite_steps, 1, most_steps);
  root.section("diagnostics").integer("every", config.diagnostics.every, 0, most_steps);
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
  read_norm_removal(sections.section("norm_removal"), config);
  return config;
}

}  // namespace

Config load_config(const std::string& path, const std::vector<std::string>& overrides) {
  return from_tree(load_yaml(path), overrides);
}

bool is_pure_bf16(PrecisionChoice precision) {
  switch (precision) {
    case PrecisionChoice::automatic:
    case PrecisionChoice::fp32:
    case PrecisionChoice::bf16:
      return false;
    case PrecisionChoice::pure_bf16_weights:
    case PrecisionChoice::pure_bf16_gradients:
    case PrecisionChoice::pure_bf16_forward:
      return true;
  }
  throw Error("a precision that is unknown");
}

Config parse_config(const std::string& yaml, const std::string& name,
                    const std::vector<std::string>& overrides) {
  return from_tree(resolve_inherit(parse_yaml(yaml, name), name), overrides);
}

}  // namespace normlab
