#include <charconv>
#include <map>
#include <utility>

#include "engine/config.h"
#include "engine/config_names.h"
#include "engine/yaml_tree.h"

namespace normlab {
namespace {

// The fewest digits that read back to the same double.
std::string written(double value) {
  char digits[32];
  auto [end, problem] = std::to_chars(digits, digits + sizeof(digits), value);
  check(problem == std::errc(), "a double fits 32 characters");
  return {digits, end};
}
std::string written(int64_t value) { return std::to_string(value); }
std::string written(bool value) { return value ? "true" : "false"; }

// In quotes always: then no word of YAML's (null, yes, 010, *x) can be meant.
std::string written(const std::string& text) {
  std::string result = "\"";
  for (char letter : text) {
    const auto code = static_cast<unsigned char>(letter);
    constexpr char hexadecimal[] = "0123456789abcdef";
    if (letter == '"' || letter == '\\') {
      result += std::string("\\") + letter;
    } else if (code < 0x20 || code == 0x7f) {
      result += std::string("\\x") + hexadecimal[code >> 4] + hexadecimal[code & 15];
    } else {
      result += letter;
    }
  }
  return result + '"';
}

std::string written(const std::vector<std::string>& texts) {
  std::string list;
  for (const std::string& text : texts) list += (list.empty() ? "" : ", ") + written(text);
  return "[" + list + "]";
}

// Lines of one section after another.
class Writer {
 public:
  void comment(const std::string& text) { text_ += "# " + text + "\n"; }
  void section(const std::string& name) {
    text_ += name + ":\n";
    indent_ = "  ";
  }
  void part(const std::string& name) {
    text_ += "  " + name + ":\n";
    indent_ = "    ";
  }
  template <typename Value>
  void key(const std::string& name, const Value& value) {
    raw(name, written(value));
  }
  // Words of config_names.h need no quotes.
  void raw(const std::string& name, const std::string& value) {
    text_ += indent_ + name + ": " + value + "\n";
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  std::string indent_;
};

void write_run(Writer& out, const RunConfig& run) {
  out.section("run");
  out.key("directory", run.directory);
  out.key("seed", run.seed);
  out.raw("device", name_of(run.device, device_names));
  if (is_pure_bf16(run.precision)) {
    out.raw("precision", "pure_bf16");
    out.raw("pure_bf16", name_of(run.precision, pure_bf16_names));
  } else {
    out.raw("precision", name_of(run.precision, precision_names));
  }
  out.key("threads", run.threads);
}

// What the placement and kind at hand have.
void write_placement(Writer& out, const NormConfig& norm) {
  if (norm.placement == NormPlacement::mix) out.key("post_layers", norm.post_layers);
  if (norm.placement == NormPlacement::lns) {
    out.raw("lns_position", name_of(norm.lns_position, lns_position_names));
    out.raw("lns_sublayers", name_of(norm.lns_sublayers, lns_sublayers_names));
  }
  out.raw("branch", name_of(norm.branch, branch_scale_names));
  if (norm.branch_init > 0) out.key("branch_init", norm.branch_init);
  out.key("gpas", norm.gpas);
  if (is_elementwise(norm.kind)) out.key("slope_init", norm.slope_init);
}

void write_model(Writer& out, const Config& config) {
  const ModelConfig& model = config.model;
  out.section("model");
  if (config.model_from) {
    if (config.model_from_family) {
      out.raw("family", name_of(*config.model_from_family, family_names));
    }
    out.key("from", *config.model_from);
    out.key("dropout", model.dropout);
    return;
  }
  out.raw("family", name_of(model.family, family_names));
  if (!config.model_size.empty()) out.key("size", config.model_size);
  out.key("layers", model.layers);
  out.key("width", model.width);
  out.key("heads", model.heads);
  out.key("kv_heads", model.kv_heads);
  out.key("head_size", model.head_size);
  out.key("feed_forward", model.feed_forward);
  out.key("vocabulary", model.vocabulary);
  out.key("context", model.context);
  out.key("dropout", model.dropout);
  out.key("tie_embeddings", model.tie_embeddings);
  out.raw("biases", name_of(model.biases, biases_names));
  if (model.positions == Positions::rope) out.key("rope_base", model.rope_base);
  out.part("norm");
  out.raw("kind", name_of(model.norm.kind, norm_kind_names));
  out.raw("placement", name_of(model.norm.placement, placement_names));
  out.key("epsilon", model.norm.epsilon);
  write_placement(out, model.norm);
  out.part("init");
  out.raw("kind", name_of(model.init.kind, init_kind_names));
  out.key("std", model.init.std);
  out.key("embedding_std", model.init.embedding_std);
}

void write_data(Writer& out, const DataConfig& data) {
  out.section("data");
  if (!data.tokenizer.empty()) out.key("tokenizer", data.tokenizer);
  out.key("validation_fraction", data.validation_fraction);
  if (data.packing) out.raw("packing", name_of(*data.packing, packing_names));
  out.key("sequence_length", data.sequence_length);
  out.key("mask_eot_targets", data.mask_eot_targets);
  switch (data.corpus) {
    case Corpus::shards:
      out.key("train", data.train);
      break;
    case Corpus::text:
      out.key("text", data.text);
      break;
    case Corpus::prompts:
      out.key("prompts", data.prompts);
      out.part("roles");
      if (!data.roles.system.empty()) out.key("system", data.roles.system);
      out.key("user", data.roles.user);
      out.key("assistant", data.roles.assistant);
      break;
    case Corpus::grammar:
      out.part("grammar");
      out.key("documents", data.grammar_documents);
      break;
  }
  if (data.validation.empty()) return;
  out.part("validation");
  for (const auto& [name, files] : data.validation) out.key(written(name), files);
}

void write_optimization(Writer& out, const Config& config) {
  out.section("batch");
  out.key("tokens_per_step", config.batch.tokens_per_step);
  out.key("micro_batch", config.batch.micro_batch);
  out.raw("recompute", name_of(config.batch.recompute, recompute_names));
  const OptimizerConfig& optimizer = config.optimizer;
  out.section("optimizer");
  out.raw("name", name_of(optimizer.name, optimizer_names));
  out.key("learning_rate", optimizer.learning_rate);
  std::string betas = "[";
  betas += written(optimizer.beta1) + ", " + written(optimizer.beta2) + "]";
  out.raw("betas", betas);
  out.key("epsilon", optimizer.epsilon);
  out.key("weight_decay", optimizer.weight_decay);
  out.key("decay_embeddings", optimizer.decay_embeddings);
  out.key("gradient_clip", optimizer.gradient_clip);
  out.raw("loss_average", name_of(optimizer.loss_average, loss_average_names));
  const ScheduleConfig& schedule = config.schedule;
  out.section("schedule");
  out.raw("kind", name_of(schedule.kind, schedule_names));
  out.key("total_steps", schedule.total_steps);
  out.key("stop_step", schedule.stop_step);
  out.key("warmup_steps", schedule.warmup_steps);
  out.key("minimum_ratio", schedule.minimum_ratio);
  out.key("decay_fraction", schedule.decay_fraction);
}

// In the order of the paper.
void write_norm_removal(Writer& out, const NormRemovalConfig& removal) {
  out.section("norm_removal");
  out.raw("std", name_of(removal.std, std_sharing_names));
  out.raw("method", name_of(removal.method, removal_method_names));
  out.key("taper_steps", removal.taper_steps);
  out.raw("policy", name_of(removal.policy, removal_policy_names));
  out.key("special_std", removal.special_std);
  out.key("auxiliary_loss_weight", removal.auxiliary_loss_weight);
  out.key("auxiliary_group", removal.auxiliary_group);
  out.key("auxiliary_target", removal.auxiliary_target);
  for (const auto& [name, start] :
       {std::pair{"bos", removal.bos_start}, {"eot", removal.eot_start}}) {
    if (start == 0) continue;
    out.part(name);
    out.key("start", start);
  }
  const bool shared =
      removal.std == StdSharing::shared && removal.phases.contains(NormRole::attention_qk);
  for (const auto& [role, phase] : removal.phases) {
    out.part(name_of(role, norm_role_names));
    out.key("start", phase.start);
    if (role != NormRole::final) out.key("gap", phase.gap);
    // One σ has one momentum.
    if (!(shared && role == NormRole::attention_v)) out.key("momentum", phase.momentum);
  }
}

void write_the_rest(Writer& out, const Config& config) {
  out.section("evaluation");
  out.key("every", config.evaluation.every);
  out.key("tokens", config.evaluation.tokens);
  out.key("reference_batch", config.evaluation.reference_batch);
  out.section("checkpoint");
  out.key("every", config.checkpoint.every);
  out.key("keep", config.checkpoint.keep);
  out.key("seconds_before_end", config.checkpoint.seconds_before_end);
  out.section("parallel");
  out.key("reproducible", config.parallel.reproducible);
  out.key("shards", config.parallel.shards);
  out.key("zero_stage", config.parallel.zero_stage);
  out.key("timeout_seconds", config.parallel.timeout_seconds);
  out.section("guard");
  out.key("nonfinite_steps", config.guard.nonfinite_steps);
  out.section("diagnostics");
  out.key("every", config.diagnostics.every);
}

using Flat = std::map<std::string, const YamlNode*>;

// Lists stay whole; data.validation's sets are keys like any other.
void flatten(const YamlNode& node, const std::string& path, Flat& flat) {
  if (node.kind != YamlKind::map) {
    flat[path] = &node;
    return;
  }
  for (const YamlNode& child : node.children) {
    flatten(child, path.empty() ? child.key : path + "." + child.key, flat);
  }
}

// The tokenizer of shards is a path that may move with them: its contents are compared on resume.
bool may_change(const std::string& key, const Flat& values) {
  for (const char* section : {"evaluation.", "checkpoint.", "guard.", "diagnostics."}) {
    if (key.rfind(section, 0) == 0) return true;
  }
  return key == "schedule.stop_step" || key == "run.directory" || key == "run.threads" ||
         key == "run.device" || key == "batch.recompute" || key == "parallel.timeout_seconds" ||
         key == "parallel.zero_stage" || (key == "data.tokenizer" && values.contains("data.train"));
}

// Text without the quotes that only one of two writers may have set.
std::string value_of(const Flat& flat, const std::string& key) {
  auto found = flat.find(key);
  if (found == flat.end()) return "absent";
  const YamlNode& node = *found->second;
  return node.kind == YamlKind::scalar ? node.text : node.written();
}

// 1e-3 and 0.001 are the same value.
bool equal_values(const std::string& a, const std::string& b) {
  if (a == b) return true;
  double numbers[2];
  const std::string* texts[2] = {&a, &b};
  for (int i = 0; i < 2; ++i) {
    const char* end = texts[i]->data() + texts[i]->size();
    auto [stop, problem] = std::from_chars(texts[i]->data(), end, numbers[i]);
    if (problem != std::errc() || stop != end) return false;
  }
  return numbers[0] == numbers[1];
}

}  // namespace

std::string to_yaml(const Config& config) {
  Writer out;
  out.comment("A resolved normlab configuration: every key, given or by default.");
  out.comment("`train` reads it back to the same run.");
  write_run(out, config.run);
  write_model(out, config);
  write_data(out, config.data);
  write_optimization(out, config);
  if (config.norm_removal.is_given()) write_norm_removal(out, config.norm_removal);
  write_the_rest(out, config);
  return out.text();
}

std::vector<std::string> differences(const std::string& old_yaml, const std::string& new_yaml) {
  const YamlNode old_root = parse_yaml(old_yaml, "old");
  const YamlNode new_root = parse_yaml(new_yaml, "new");
  Flat old_values;
  Flat new_values;
  flatten(old_root, "", old_values);
  flatten(new_root, "", new_values);
  Flat all = old_values;
  all.insert(new_values.begin(), new_values.end());
  std::vector<std::string> lines;
  for (const auto& [key, node] : all) {
    std::string before = value_of(old_values, key);
    std::string after = value_of(new_values, key);
    if (!may_change(key, new_values) && !equal_values(before, after)) {
      lines.push_back(key + ": " + before + " → " + after);
    }
  }
  return lines;
}

std::string identity(const std::string& yaml) {
  const YamlNode root = parse_yaml(yaml, "resolved configuration");
  Flat values;
  flatten(root, "", values);
  std::string text;
  for (const auto& [key, node] : values) {
    if (!may_change(key, values)) text += key + "=" + value_of(values, key) + "\n";
  }
  return text;
}

}  // namespace normlab
