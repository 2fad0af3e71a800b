// config.json in: what a model is, and whether all of it is computed here.
#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "data/json_text.h"
#include "engine/config_names.h"
#include "engine/files.h"
#include "engine/hugging_face.h"

namespace normlab {
namespace {

using nlohmann::json;

// A config.json with the errors that a reader deserves.
class Description {
 public:
  explicit Description(const std::string& path) : path_(path) {
    const std::string text = read_file(path);
    try {
      root_ = parse_json_text<json>(text);
    } catch (const json::exception& error) {
      throw fail(std::string("is not JSON: ") + error.what());
    } catch (const Error& error) {
      throw error.at(path);
    }
    if (!root_.is_object()) throw fail("is not a JSON object");
  }

  Error fail(const std::string& message) const { return input_error(path_ + ": " + message); }
  Error refusal(const std::string& key, const json& value, const std::string& what) const {
    return fail(key + " = " + value.dump() + " (" + what +
                " is not computed here). Use a model without it");
  }
  const std::string& path() const { return path_; }
  const json& root() const { return root_; }
  bool has(const char* key) const { return root_.contains(key) && !root_[key].is_null(); }

  int64_t integer(const char* key) const {
    if (!has(key) || !root_[key].is_number_integer()) {
      throw fail(std::string(key) + " is missing or not an integer. Is this a model directory?");
    }
    // So that products of two of them are integers still.
    const double value = root_[key].get<double>();
    if (std::abs(value) > std::numeric_limits<int32_t>::max()) {
      throw fail(std::string(key) + " = " + root_[key].dump() +
                 " (no model is of that size). Is this a model directory?");
    }
    return root_[key].get<int64_t>();
  }
  int64_t integer(const char* key, int64_t otherwise) const {
    return has(key) ? integer(key) : otherwise;
  }
  double number(const char* key, double otherwise) const {
    if (!has(key)) return otherwise;
    if (!root_[key].is_number()) throw fail(std::string(key) + " is not a number");
    return root_[key].get<double>();
  }
  std::string text(const char* key, const std::string& otherwise) const {
    if (!has(key)) return otherwise;
    if (!root_[key].is_string()) throw fail(std::string(key) + " is not a text");
    return root_[key].get<std::string>();
  }
  bool flag(const char* key, bool otherwise) const {
    if (!has(key)) return otherwise;
    if (!root_[key].is_boolean()) throw fail(std::string(key) + " is neither true nor false");
    return root_[key].get<bool>();
  }
  void refuse_unless(const char* key, bool computed, const std::string& what) const {
    if (!computed) throw refusal(key, root_[key], what);
  }

 private:
  std::string path_;
  json root_;
};

// A key by which transformers' classes of these four types, or their common base, compute something
// else, unless it has the value given here, its default there (null is as good as absent).
//
// Three kinds of keys: those that the functions below read; those of this list, which must have
// their harmless value; and all others, which are ignored because transformers' own classes do not
// read them when they compute logits (labels, tasks, generation, names, versions, caches).
struct Feature {
  const char* key;
  const char* harmless;  // JSON
  const char* what;
};
constexpr Feature features_of_all[] = {
    {"quantization_config", "null", "arithmetic on quantized weights"},
    {"per_layer_config", "null", "a model whose layers differ"},
    {"pruned_heads", "{}", "attention with heads left out"},
    {"is_encoder_decoder", "false", "an encoder beside the decoder"},
    {"add_cross_attention", "false", "cross-attention"},
};
constexpr Feature features_of_gpt2[] = {
    {"scale_attn_weights", "true", "attention without 1/√D"},
    {"scale_attn_by_inverse_layer_idx", "false", "attention scaled by layer"},
    // Rounds in another order.
    {"reorder_and_upcast_attn", "false", "attention with reordered roundings"},
};
constexpr Feature features_of_llama[] = {
    {"attention_bias", "false", "biases in all of attention"},
    {"mlp_bias", "false", "biases in the MLP"},
    {"partial_rotary_factor", "1.0", "rotation of a part of each head"},
};

template <size_t count>
void refuse_features(const Description& file, const Feature (&features)[count]) {
  for (const Feature& feature : features) {
    file.refuse_unless(
        feature.key,
        !file.has(feature.key) || file.root()[feature.key] == json::parse(feature.harmless),
        feature.what);
  }
}

ModelConfig read_gpt2(const Description& file) {
  ModelConfig config = gpt2_defaults();
  config.layers = file.integer("n_layer");
  config.width = file.integer("n_embd");
  config.heads = config.kv_heads = file.integer("n_head");
  if (config.heads <= 0 || config.width % config.heads != 0) {
    throw file.fail("n_embd is not a multiple of n_head. Is this a model directory?");
  }
  config.head_size = config.width / config.heads;
  config.feed_forward = file.integer("n_inner", 4 * config.width);
  config.vocabulary = file.integer("vocab_size");
  config.context = file.integer("n_positions");
  config.norm.epsilon = file.number("layer_norm_epsilon", 1e-5);
  config.tie_embeddings = file.flag("tie_word_embeddings", true);
  config.dropout = file.number("resid_pdrop", 0.1);
  const std::string activation = file.text("activation_function", "gelu_new");
  file.refuse_unless("activation_function",
                     activation == "gelu_new" || activation == "gelu_pytorch_tanh",
                     "an activation other than gelu_new");
  refuse_features(file, features_of_gpt2);
  // transformers takes these for the same keys.
  for (const auto& [alias, key] : {std::pair("hidden_size", "n_embd"),
                                   {"num_hidden_layers", "n_layer"},
                                   {"num_attention_heads", "n_head"},
                                   {"max_position_embeddings", "n_positions"}}) {
    file.refuse_unless(alias, !file.has(alias) || file.root()[alias] == file.root()[key],
                       "another value than that of " + std::string(key));
  }
  return config;
}

// transformers 5 writes rope_parameters {rope_theta, rope_type}; before, rope_theta and
// rope_scaling stood at the top, and they are still read: rope_scaling before rope_parameters, the
// base within before the one at the top.
double read_rope_base(const Description& file) {
  const double base = file.number("rope_theta", 10000);
  const bool scaling = file.has("rope_scaling") && !file.root()["rope_scaling"].empty();
  const char* key = scaling ? "rope_scaling" : "rope_parameters";
  if (!file.has(key)) return base;
  const json& rope = file.root()[key];
  file.refuse_unless(key, rope.is_object(), "rope scaling");
  for (const auto& [name, value] : rope.items()) {
    const bool plain = name == "rope_theta" ||
                       ((name == "rope_type" || name == "type") && value == "default") ||
                       (name == "partial_rotary_factor" && value == 1);
    file.refuse_unless(key, plain || value.is_null(), "rope scaling");
  }
  const json within = rope.value("rope_theta", json(base));
  file.refuse_unless(key, within.is_number(), "a rope_theta that is not a number");
  return within.get<double>();
}

// Whether a layer attends within a sliding window. llama's class knows none, but a file that asks
// for one is not taken at more than its word. Without "layer_types" all layers slide; Qwen2's those
// from max_window_layers on.
bool any_layer_slides(const Description& file, const std::string& type, int64_t layers) {
  if (!file.has("layer_types")) {
    return type != "qwen2" || file.integer("max_window_layers", 28) < layers;
  }
  const json& types = file.root()["layer_types"];
  file.refuse_unless("layer_types", types.is_array(), "what this asks for");
  bool slides = false;
  for (const json& layer : types) {
    const bool sliding = layer == "sliding_attention";
    file.refuse_unless("layer_types", sliding || layer == "full_attention",
                       "a layer other than attention");
    slides = slides || sliding;
  }
  return slides;
}

// A token attends to itself and the window − 1 before it: where the window is at least the context,
// nothing is cut off, and where it is null or switched off there is none.
void refuse_sliding_window(const Description& file, const std::string& type,
                           const ModelConfig& config) {
  const bool slides = any_layer_slides(file, type, config.layers);
  if (type == "qwen2" && !file.flag("use_sliding_window", false)) return;
  // transformers' default where the key is absent.
  const bool absent = !file.root().contains("sliding_window");
  if (!file.has("sliding_window") && !(absent && type != "llama")) return;
  const int64_t window = file.integer("sliding_window", 4096);
  if (!slides || window >= config.context) return;
  const std::string what =
      "attention within a window shorter than the context of " + std::to_string(config.context);
  throw file.refusal("sliding_window", window, absent ? what + ", " + type + "'s default," : what);
}

// Of a llama, mistral or qwen2, as transformers fills in what the file leaves out.
ModelConfig read_llama(const Description& file, const std::string& type) {
  ModelConfig config = llama_defaults();
  config.layers = file.integer("num_hidden_layers");
  config.width = file.integer("hidden_size");
  config.heads = file.integer("num_attention_heads");
  const bool mistral = type == "mistral";
  const bool absent = !file.root().contains("num_key_value_heads");
  config.kv_heads = mistral && absent ? 8 : file.integer("num_key_value_heads", config.heads);
  if (config.heads <= 0) {
    throw file.fail("num_attention_heads is not positive. Is this a model directory?");
  }
  config.head_size = file.integer("head_dim", config.width / config.heads);
  config.feed_forward = file.integer("intermediate_size");
  config.vocabulary = file.integer("vocab_size");
  const int64_t context = mistral ? 131072 : type == "qwen2" ? 32768 : 2048;
  config.context = file.integer("max_position_embeddings", context);
  config.norm.epsilon = file.number("rms_norm_eps", 1e-6);
  config.tie_embeddings = file.flag("tie_word_embeddings", false);
  config.rope_base = read_rope_base(file);
  config.biases = type == "qwen2" ? Biases::qkv : Biases::none;
  const std::string activation = file.text("hidden_act", "silu");
  file.refuse_unless("hidden_act", activation == "silu" || activation == "swish",
                     "an activation other than silu");
  refuse_features(file, features_of_llama);
  refuse_sliding_window(file, type, config);
  return config;
}

template <typename Choice, size_t count>
void read_choice(const Description& file, const char* key, Choice& choice,
                 const std::array<ChoiceName<Choice>, count>& names) {
  const std::string word = file.root()["normlab"].value(key, name_of(choice, names));
  for (const auto& entry : names) {
    if (entry.name != word) continue;
    choice = entry.choice;
    return;
  }
  throw file.fail("normlab." + std::string(key) + " = " + word +
                  " (not known to this version). Use the version that wrote it");
}

std::vector<NormRecord> read_norms(const Description& file, const json& list) {
  try {
    return norms_from_json(list);
  } catch (const Error& error) {
    throw file.fail(std::string("normlab.norms: ") + error.what());
  }
}

// What the plain formats have no word for.
void read_own_section(const Description& file, ModelDescription& description) {
  if (!file.has("normlab")) return;
  const json& own = file.root()["normlab"];
  try {
    description.tokenizer = own.value("tokenizer", "");
    description.micro_batch = own.value("micro_batch", int64_t{0});
    description.sequence_length = own.value("sequence_length", int64_t{0});
    description.mask_eot_targets = own.value("mask_eot_targets", false);
    read_choice(file, "packing", description.packing, packing_names);
    read_choice(file, "precision", description.precision, precision_names);
    description.config.dropout = own.value("dropout", 0.0);
    read_choice(file, "norm", description.config.norm.kind, norm_kind_names);
    read_choice(file, "placement", description.config.norm.placement, placement_names);
    NormConfig& norm = description.config.norm;
    norm.post_layers = own.value("post_layers", norm.post_layers);
    read_choice(file, "lns_position", norm.lns_position, lns_position_names);
    read_choice(file, "lns_sublayers", norm.lns_sublayers, lns_sublayers_names);
    read_choice(file, "branch", norm.branch, branch_scale_names);
    norm.gpas = own.value("gpas", false);
    read_choice(file, "biases", description.config.biases, biases_names);
    description.config.head_bias = own.value("head_bias", false);
    description.norms = read_norms(file, own.value("norms", json::array()));
  } catch (const json::exception& error) {
    throw file.fail(std::string("the normlab section: ") + error.what());
  }
  if (description.config.family == Family::gpt2 && description.config.biases != Biases::all) {
    throw file.fail("normlab.biases (GPT-2 has all). Take the file that belongs to the weights");
  }
}

// An id, the first of a list of ids, or −1.
int64_t read_id(const Description& file, const char* key) {
  if (!file.has(key)) return -1;
  const json& value = file.root()[key];
  const json& id = value.is_array() && !value.empty() ? value[0] : value;
  return id.is_number_integer() ? id.get<int64_t>() : -1;
}

// Beyond any epsilon that a norm computes its std with.
constexpr double kLnFreeEpsilon = 1e6;

// Norms that divide by s = √epsilon whatever their input are frozen ones. A file of ours says so
// itself, and σ and epsilon as they were; of others the gains hold gain/σ.
void read_ln_free(const Description& file, ModelDescription& description) {
  ModelConfig& config = description.config;
  const bool ours = file.has("normlab");
  const json settings = ours ? file.root()["normlab"].value("ln_free", json()) : json();
  if (ours ? settings.is_null() : !(config.norm.epsilon >= kLnFreeEpsilon)) return;
  if (!(config.norm.epsilon >= kLnFreeEpsilon)) {
    throw file.fail(
        "normlab.ln_free (the epsilon of its norms is no large one). "
        "Take the config.json that belongs to the weights");
  }
  description.form = ModelForm::ln_free;
  description.ln_free_scale = std::sqrt(config.norm.epsilon);
  const std::vector<NormRecord> all = frozen_norms(config.norm, config.layers, 1);
  if (!ours) {
    config.norm.epsilon =
        (config.family == Family::gpt2 ? gpt2_defaults() : llama_defaults()).norm.epsilon;
    description.norms = all;
    description.warnings.push_back(
        file.path() +
        ": the model is LN-free and does not say by which std its norms divide (they come in with "
        "std 1 and gains that hold gain/std, which computes the same). Training on starts from "
        "other gains than it would from the model that was published");
    return;
  }
  if (!beyond_plain(config).empty()) {
    throw file.fail("normlab.ln_free (no plain model is LN-free that has " + beyond_plain(config) +
                    "). Take the config.json that belongs to the weights");
  }
  try {
    config.norm.epsilon = settings.at("epsilon").get<double>();
  } catch (const json::exception& error) {
    throw file.fail(std::string("normlab.ln_free: ") + error.what());
  }
  const bool complete =
      description.norms.size() == all.size() && all_frozen(description.norms) &&
      std::all_of(all.begin(), all.end(), [&](const NormRecord& norm) {
        return std::any_of(description.norms.begin(), description.norms.end(),
                           [&](const NormRecord& other) { return same_place(norm, other); });
      });
  if (complete) return;
  throw file.fail(
      "normlab.norms (an LN-free model must name every norm once, its gate 0, with one std). "
      "Take the config.json that belongs to the weights");
}

// Ours are of either family: their own section says of which.
std::string type_of(const Description& file) {
  const std::string type = file.text("model_type", "");
  if (type != "normlab" && type != "normlab_gpt2" && type != "normlab_llama") return type;
  const json own = file.root().value("normlab", json::object());
  const json family = own.is_object() ? own.value("family", json()) : json();
  return family.is_string() ? family.get<std::string>() : "";
}

}  // namespace

ModelDescription read_config_json(const std::string& directory) {
  const Description file(directory + "/config.json");
  const std::string type = type_of(file);
  ModelDescription description;
  if (type == "gpt2") {
    description.config = read_gpt2(file);
  } else if (type == "llama" || type == "mistral" || type == "qwen2") {
    description.config = read_llama(file, type);
    description.mistral = type == "mistral";
  } else {
    throw file.fail("model_type = \"" + type +
                    "\" (not a type that this program computes). "
                    "Use a gpt2, llama, mistral or qwen2 model");
  }
  refuse_features(file, features_of_all);
  description.begin_of_text = read_id(file, "bos_token_id");
  description.end_of_text = read_id(file, "eos_token_id");
  read_own_section(file, description);
  try {
    validate(description.config);
  } catch (const Error& error) {
    throw error.at(directory + "/config.json");
  }
  if (file.text("model_type", "").starts_with("normlab_")) {
    description.form = ModelForm::modelling;
  } else {
    read_ln_free(file, description);
  }
  const double epsilon = description.config.norm.epsilon;
  if (!(std::isfinite(epsilon) && epsilon > 0)) {
    throw file.fail("the epsilon of its norms is not above 0. Is this a model directory?");
  }
  return description;
}

}  // namespace normlab
