#include "engine/config_keys.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <sstream>
#include <utility>

#include "engine/config_names.h"
#include "kernels/error.h"

namespace normlab {
namespace {

// The keys of each section.
constexpr std::pair<const char*, const char*> known_sections[] = {
    {"run", "directory seed device precision pure_bf16 threads"},
    {"model",
     "family from size layers width heads kv_heads head_size feed_forward vocabulary "
     "context dropout tie_embeddings biases rope_base"},
    {"model.norm",
     "kind placement epsilon post_layers lns_position lns_sublayers branch branch_init "
     "gpas slope_init"},
    {"model.init", "kind std embedding_std"},
    {"data",
     "train validation text prompts roles tokenizer grammar validation_fraction packing "
     "sequence_length mask_eot_targets"},
    {"data.grammar", "documents"},
    {"data.roles", "system user assistant"},
    {"batch", "tokens_per_step micro_batch recompute"},
    {"optimizer",
     "name learning_rate betas epsilon weight_decay decay_embeddings gradient_clip "
     "loss_average"},
    {"schedule", "kind total_steps stop_step warmup_steps minimum_ratio decay_fraction"},
    {"norm_removal",
     "std method taper_steps policy special_std auxiliary_loss_weight auxiliary_group "
     "auxiliary_target"},
    {"evaluation", "every tokens reference_batch"},
    {"checkpoint", "every keep seconds_before_end"},
    {"parallel", "reproducible shards zero_stage timeout_seconds rank ranks local_rank"},
    {"diagnostics", "every"},
    {"guard", "nonfinite_steps"},
};

constexpr std::pair<const char*, const char*> foreign_table[] = {
    {"lr", "optimizer.learning_rate"},
    {"max_lr", "optimizer.learning_rate"},
    {"peak_lr", "optimizer.learning_rate"},
    {"beta1", "optimizer.betas: [beta1, beta2]"},
    {"beta2", "optimizer.betas: [beta1, beta2]"},
    {"adam_beta1", "optimizer.betas: [beta1, beta2]"},
    {"adam_beta2", "optimizer.betas: [beta1, beta2]"},
    {"adam_epsilon", "optimizer.epsilon"},
    {"eps", "optimizer.epsilon or model.norm.epsilon"},
    {"wd", "optimizer.weight_decay"},
    {"grad_clip", "optimizer.gradient_clip"},
    {"clip_grad", "optimizer.gradient_clip"},
    {"grad_clipping", "optimizer.gradient_clip"},
    {"gradient_clipping", "optimizer.gradient_clip"},
    {"max_grad_norm", "optimizer.gradient_clip"},
    {"max_norm", "optimizer.gradient_clip"},
    {"optim", "optimizer.name"},
    {"max_steps", "schedule.total_steps"},
    {"max_iters", "schedule.total_steps"},
    {"num_iterations", "schedule.total_steps"},
    {"num_training_steps", "schedule.total_steps"},
    {"training_steps", "schedule.total_steps"},
    {"train_steps", "schedule.total_steps"},
    {"num_steps", "schedule.total_steps"},
    {"steps", "schedule.total_steps"},
    {"lr_decay_iters", "schedule.total_steps"},
    {"warmup", "schedule.warmup_steps"},
    {"warmup_iters", "schedule.warmup_steps"},
    {"num_warmup_steps", "schedule.warmup_steps"},
    {"lr_warmup_steps", "schedule.warmup_steps"},
    {"min_lr", "schedule.minimum_ratio (a fraction of the peak rate)"},
    {"min_lr_ratio", "schedule.minimum_ratio"},
    {"min_lr_factor", "schedule.minimum_ratio"},
    {"lr_scheduler", "schedule.kind"},
    {"lr_scheduler_type", "schedule.kind"},
    {"decay_lr", "schedule.kind"},
    {"block_size", "data.sequence_length"},
    {"seq_len", "data.sequence_length"},
    {"seq_length", "data.sequence_length"},
    {"max_length", "data.sequence_length"},
    {"max_seq_len", "data.sequence_length"},
    {"max_seq_length", "data.sequence_length"},
    {"sequence_len", "data.sequence_length"},
    {"dataset", "data.train"},
    {"train_files", "data.train"},
    {"train_data", "data.train"},
    {"val_data", "data.validation"},
    {"val_files", "data.validation"},
    {"eval_files", "data.validation"},
    {"validation_split", "data.validation_fraction"},
    {"batch_size", "batch.micro_batch"},
    {"micro_batch_size", "batch.micro_batch"},
    {"local_batch_size", "batch.micro_batch"},
    {"per_device_train_batch_size", "batch.micro_batch"},
    {"total_batch_size", "batch.tokens_per_step (in tokens)"},
    {"global_batch_size", "batch.tokens_per_step (in tokens)"},
    {"gradient_checkpointing", "batch.recompute"},
    {"activation_checkpointing", "batch.recompute"},
    {"gradient_accumulation_steps", ""},
    {"gradient_accumulation", ""},
    {"grad_accum_steps", ""},
    {"n_layer", "model.layers"},
    {"n_layers", "model.layers"},
    {"num_layers", "model.layers"},
    {"num_hidden_layers", "model.layers"},
    {"depth", "model.layers"},
    {"n_head", "model.heads"},
    {"n_heads", "model.heads"},
    {"num_heads", "model.heads"},
    {"num_attention_heads", "model.heads"},
    {"n_kv_head", "model.kv_heads"},
    {"n_kv_heads", "model.kv_heads"},
    {"num_key_value_heads", "model.kv_heads"},
    {"head_dim", "model.head_size"},
    {"n_embd", "model.width"},
    {"d_model", "model.width"},
    {"dim", "model.width"},
    {"hidden_size", "model.width"},
    {"n_inner", "model.feed_forward"},
    {"d_ff", "model.feed_forward"},
    {"ffn_dim", "model.feed_forward"},
    {"intermediate_size", "model.feed_forward"},
    {"vocab_size", "model.vocabulary"},
    {"n_ctx", "model.context"},
    {"n_positions", "model.context"},
    {"context_length", "model.context"},
    {"max_position_embeddings", "model.context"},
    {"rope_theta", "model.rope_base"},
    {"tie_word_embeddings", "model.tie_embeddings"},
    {"attn_pdrop", "model.dropout"},
    {"embd_pdrop", "model.dropout"},
    {"resid_pdrop", "model.dropout"},
    {"model_type", "model.family"},
    {"model_name", "model.size"},
    {"init_from", "model.from"},
    {"model_name_or_path", "model.from"},
    {"norm_type", "model.norm.kind"},
    {"layer_norm_epsilon", "model.norm.epsilon"},
    {"layer_norm_eps", "model.norm.epsilon"},
    {"rms_norm_eps", "model.norm.epsilon"},
    {"initializer_range", "model.init.std"},
    {"out_dir", "run.directory"},
    {"output_dir", "run.directory"},
    {"save_dir", "run.directory"},
    {"dump_folder", "run.directory"},
    {"random_seed", "run.seed"},
    {"dtype", "run.precision"},
    {"mixed_precision", "run.precision"},
    {"bf16", "run.precision"},
    {"fp16", "run.precision"},
    {"num_threads", "run.threads"},
    {"eval_interval", "evaluation.every"},
    {"eval_steps", "evaluation.every"},
    {"eval_every", "evaluation.every"},
    {"eval_iters", "evaluation.tokens"},
    {"save_steps", "checkpoint.every"},
    {"save_every", "checkpoint.every"},
    {"save_interval", "checkpoint.every"},
    {"checkpoint_every", "checkpoint.every"},
    {"save_total_limit", "checkpoint.keep"},
};

std::string last_part(const std::string& path) { return path.substr(path.rfind('.') + 1); }

std::string parent_of(const std::string& path) {
  size_t dot = path.rfind('.');
  return dot == std::string::npos ? "" : path.substr(0, dot);
}

// "Learning-Rate" and "learning_rate" are the same word.
std::string normalised(std::string name) {
  for (char& letter : name) {
    letter =
        letter == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  }
  return name;
}

// Sections as well as keys: "optimiser" is near to "optimizer".
const std::vector<std::string>& keys_and_sections() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> names = known_keys();
    for (const std::string& key : known_keys()) {
      for (std::string part = parent_of(key); !part.empty(); part = parent_of(part)) {
        if (std::find(names.begin(), names.end(), part) == names.end()) names.push_back(part);
      }
    }
    return names;
  }();
  return all;
}

bool is_section(const std::string& path) {
  return std::any_of(known_keys().begin(), known_keys().end(), [&](const std::string& key) {
    return key.size() > path.size() && key.compare(0, path.size(), path) == 0 &&
           key[path.size()] == '.';
  });
}

std::string nearest_key(const std::string& path) {
  std::string name = normalised(last_part(path));
  std::string best;
  size_t best_distance = std::max<size_t>(2, name.size() / 3) + 1;
  for (const std::string& candidate : keys_and_sections()) {
    size_t elsewhere = parent_of(candidate) == parent_of(path) ? 0 : 1;
    size_t distance = edit_distance(name, last_part(candidate)) + elsewhere;
    if (distance < best_distance && distance < name.size()) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string keys_of_section(const std::string& section) {
  std::string list;
  for (const std::string& key : keys_and_sections()) {
    if (parent_of(key) == section) list += (list.empty() ? "" : ", ") + last_part(key);
  }
  return list;
}

std::string advice(const std::string& path) {
  std::string name = normalised(last_part(path));
  auto foreign = foreign_names().find(name);
  if (foreign != foreign_names().end()) {
    if (!foreign->second.empty()) return "Write " + foreign->second;
    return "Delete it: accumulation follows from batch.tokens_per_step, batch.micro_batch and the "
           "number of ranks";
  }
  std::string nearest = nearest_key(path);
  if (!nearest.empty()) return "Did you mean " + nearest + "?";
  return "Known here: " + keys_of_section(is_section(parent_of(path)) ? parent_of(path) : "");
}

// Long values say nothing about the name.
std::string with_value(const std::string& path, const YamlNode& node) {
  if (node.kind == YamlKind::map) return path;
  return path + " = " + node.written();
}

void reject_unknown_below(const YamlNode& map, const std::string& prefix) {
  for (const YamlNode& child : map.children) {
    std::string path = prefix + child.key;
    if (child.key.find('.') != std::string::npos) {
      throw input_error(child.place + ": " + with_value(path, child) +
                        " (a key with a dot; dots are for the command line). Write " +
                        parent_of(path) + ": {" + last_part(path) + ": …}");
    }
    const std::vector<std::string>& keys = known_keys();
    if (std::find(keys.begin(), keys.end(), path) != keys.end()) {
      // data.grammar is both: a key (whose presence decides) and a section.
      if (child.kind == YamlKind::map && is_section(path)) reject_unknown_below(child, path + ".");
      continue;
    }
    if (!is_section(path)) {
      throw input_error(child.place + ": " + with_value(path, child) + " (unknown key). " +
                        advice(path));
    }
    if (child.kind != YamlKind::map) {
      throw input_error(child.place + ": " + with_value(path, child) +
                        " (must be a map of keys). Write " + path + ": {" + keys_of_section(path) +
                        ": …}");
    }
    reject_unknown_below(child, path + ".");
  }
}

// And those of norm_removal's phases; there is one final norm, so it has no gap.
void add_phases(std::vector<std::string>& keys) {
  for (const auto& [role, name] : removable_role_names) {
    const std::string phase = std::string("norm_removal.") + name;
    keys.push_back(phase + ".start");
    if (role != NormRole::final) keys.push_back(phase + ".gap");
    keys.push_back(phase + ".momentum");
  }
  keys.insert(keys.end(), {"norm_removal.bos.start", "norm_removal.eot.start"});
}

std::vector<std::string> all_keys() {
  std::vector<std::string> keys;
  for (const auto& [section, names] : known_sections) {
    std::istringstream words(names);
    for (std::string name; words >> name;) keys.push_back(section + ("." + name));
  }
  add_phases(keys);
  return keys;
}

}  // namespace

const std::vector<std::string>& known_keys() {
  static const std::vector<std::string> keys = all_keys();
  return keys;
}

const std::map<std::string, std::string>& foreign_names() {
  static const std::map<std::string, std::string> names(std::begin(foreign_table),
                                                        std::end(foreign_table));
  return names;
}

void reject_unknown_keys(const YamlNode& root) { reject_unknown_below(root, ""); }

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

std::string nearest_name(const std::string& name, const std::vector<std::string>& names) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, name.size() / 3) + 1;
  for (const std::string& candidate : names) {
    size_t distance = edit_distance(normalised(name), candidate);
    if (distance < best_distance && distance < name.size()) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace normlab
