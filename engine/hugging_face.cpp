#include "engine/hugging_face.h"

#include <nlohmann/json.hpp>

#include "engine/config_names.h"
#include "engine/files.h"

namespace normlab {
namespace {

using nlohmann::json;

// A config.json with the errors that a reader deserves.
class Description {
 public:
  explicit Description(const std::string& path) : path_(path) {
    try {
      root_ = json::parse(read_file(path));
    } catch (const json::exception& error) {
      throw fail(std::string("is not JSON: ") + error.what());
    }
    if (!root_.is_object()) throw fail("is not a JSON object");
  }

  Error fail(const std::string& message) const { return input_error(path_ + ": " + message); }
  const json& root() const { return root_; }
  bool has(const char* key) const { return root_.contains(key) && !root_[key].is_null(); }

  int64_t integer(const char* key) const {
    if (!has(key) || !root_[key].is_number_integer()) {
      throw fail(std::string(key) + " is missing or not an integer. Is this a model directory?");
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
    if (!computed) {
      throw fail(std::string(key) + " = " + root_[key].dump() + " (" + what +
                 " is not computed here). Another model is needed");
    }
  }

 private:
  std::string path_;
  json root_;
};

ModelConfig read_gpt2(const Description& file) {
  ModelConfig config = gpt2_defaults();
  config.layers = file.integer("n_layer");
  config.width = file.integer("n_embd");
  config.heads = config.kv_heads = file.integer("n_head");
  if (config.heads <= 0 || config.width % config.heads != 0) {
    throw file.fail("n_embd is not a multiple of n_head");
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
  file.refuse_unless("scale_attn_weights", file.flag("scale_attn_weights", true),
                     "attention without 1/√D");
  file.refuse_unless("scale_attn_by_inverse_layer_idx",
                     !file.flag("scale_attn_by_inverse_layer_idx", false),
                     "attention scaled by layer");
  file.refuse_unless("add_cross_attention", !file.flag("add_cross_attention", false),
                     "cross-attention");
  return config;
}

// transformers 5 writes rope_parameters {rope_theta, rope_type}; before, rope_theta and
// rope_scaling stood at the top.
double read_rope_base(const Description& file) {
  file.refuse_unless("rope_scaling", !file.has("rope_scaling"), "rope scaling");
  if (!file.has("rope_parameters")) return file.number("rope_theta", 10000);
  const json& rope = file.root()["rope_parameters"];
  const bool plain = rope.is_object() &&
                     (!rope.contains("rope_type") || rope["rope_type"] == "default") &&
                     rope.contains("rope_theta") && rope["rope_theta"].is_number();
  file.refuse_unless("rope_parameters", plain, "rope scaling");
  return rope["rope_theta"].get<double>();
}

ModelConfig read_llama(const Description& file) {
  ModelConfig config = llama_defaults();
  config.layers = file.integer("num_hidden_layers");
  config.width = file.integer("hidden_size");
  config.heads = file.integer("num_attention_heads");
  config.kv_heads = file.integer("num_key_value_heads", config.heads);
  if (config.heads <= 0) throw file.fail("num_attention_heads is not positive");
  config.head_size = file.integer("head_dim", config.width / config.heads);
  config.feed_forward = file.integer("intermediate_size");
  config.vocabulary = file.integer("vocab_size");
  config.context = file.integer("max_position_embeddings", 2048);
  config.norm.epsilon = file.number("rms_norm_eps", 1e-6);
  config.tie_embeddings = file.flag("tie_word_embeddings", false);
  config.rope_base = read_rope_base(file);
  file.refuse_unless("hidden_act", file.text("hidden_act", "silu") == "silu",
                     "an activation other than silu");
  file.refuse_unless("attention_bias", !file.flag("attention_bias", false), "attention biases");
  file.refuse_unless("mlp_bias", !file.flag("mlp_bias", false), "MLP biases");
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
  } catch (const json::exception& error) {
    throw file.fail(std::string("the normlab section: ") + error.what());
  }
}

NormKind plain_norm_kind(Family family) {
  switch (family) {
    case Family::gpt2:
      return gpt2_defaults().norm.kind;
    case Family::llama:
      return llama_defaults().norm.kind;
  }
  throw Error("unknown family");
}

std::vector<NamedSlice> plain_names(const ModelConfig& config) {
  switch (config.family) {
    case Family::gpt2:
      return gpt2_names(config);
    case Family::llama:
      return llama_names(config);
  }
  throw Error("unknown family");
}

json gpt2_json(const ModelConfig& config) {
  return {{"model_type", "gpt2"},
          {"architectures", {"GPT2LMHeadModel"}},
          {"n_layer", config.layers},
          {"n_embd", config.width},
          {"n_head", config.heads},
          {"n_inner", config.feed_forward},
          {"n_positions", config.context},
          {"layer_norm_epsilon", config.norm.epsilon},
          {"activation_function", "gelu_new"},
          {"resid_pdrop", config.dropout},
          {"attn_pdrop", config.dropout},
          {"embd_pdrop", config.dropout}};
}

json llama_json(const ModelConfig& config) {
  return {{"model_type", "llama"},
          {"architectures", {"LlamaForCausalLM"}},
          {"num_hidden_layers", config.layers},
          {"hidden_size", config.width},
          {"num_attention_heads", config.heads},
          {"num_key_value_heads", config.kv_heads},
          {"head_dim", config.head_size},
          {"intermediate_size", config.feed_forward},
          {"max_position_embeddings", config.context},
          {"rms_norm_eps", config.norm.epsilon},
          {"hidden_act", "silu"},
          {"attention_bias", false},
          {"mlp_bias", false},
          {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", config.rope_base}}}};
}

}  // namespace

ModelDescription read_config_json(const std::string& directory) {
  const Description file(directory + "/config.json");
  std::string type = file.text("model_type", "");
  if (type == "normlab") {
    const json own = file.root().value("normlab", json::object());
    type = own.is_object() ? own.value("family", "") : "";
  }
  ModelDescription description;
  if (type == "gpt2") {
    description.config = read_gpt2(file);
  } else if (type == "llama") {
    description.config = read_llama(file);
  } else {
    throw file.fail("model_type = \"" + type +
                    "\" (not a type that this program computes). "
                    "Use a gpt2 or llama model");
  }
  read_own_section(file, description);
  try {
    validate(description.config);
  } catch (const Error& error) {
    throw error.at(directory + "/config.json");
  }
  return description;
}

std::string config_json(const ModelDescription& description) {
  const ModelConfig& config = description.config;
  json out = config.family == Family::gpt2 ? gpt2_json(config) : llama_json(config);
  out["vocab_size"] = config.vocabulary;
  out["tie_word_embeddings"] = config.tie_embeddings;
  out["initializer_range"] = config.init.std;
  out["dtype"] = "float32";
  out["bos_token_id"] = nullptr;
  out["eos_token_id"] = nullptr;
  out["normlab"] = json{{"family", name_of(config.family, family_names)},
                        {"norm", name_of(config.norm.kind, norm_kind_names)},
                        {"placement", name_of(config.norm.placement, placement_names)},
                        {"dropout", config.dropout},
                        {"tokenizer", description.tokenizer},
                        {"micro_batch", description.micro_batch},
                        {"sequence_length", description.sequence_length},
                        {"packing", name_of(description.packing, packing_names)},
                        {"mask_eot_targets", description.mask_eot_targets},
                        {"precision", name_of(description.precision, precision_names)}};
  if (config.norm.placement != NormPlacement::pre ||
      config.norm.kind != plain_norm_kind(config.family)) {
    // "normlab": no other program takes it for a plain model.
    out["model_type"] = "normlab";
    out.erase("architectures");
  }
  return out.dump(2) + "\n";
}

std::string tokenizer_for(const ModelDescription& description, const std::string& given,
                          const std::string& directory) {
  if (!given.empty()) return given;
  if (!description.tokenizer.empty()) return description.tokenizer;
  throw input_error(directory + ": its tokenizer is not known. Name it with --tokenizer");
}

std::vector<NamedSlice> file_names(const ModelConfig& config) {
  ModelConfig plain = config;
  plain.norm.kind = plain_norm_kind(config.family);
  const std::vector<Parameter> plain_list = parameter_list(plain);
  const std::vector<Parameter> list = parameter_list(config);
  std::vector<NamedSlice> names;
  for (NamedSlice slice : plain_names(plain)) {
    const std::string own = plain_list[static_cast<size_t>(slice.parameter)].name;
    // A norm of the other kind has no bias where the plain one has,
    slice.parameter = find_parameter_or_none(list, own);
    if (slice.parameter >= 0) names.push_back(slice);
    // or one where the plain one has none: named after its gain.
    const std::string bias = own.substr(0, own.rfind('.')) + ".bias";
    if (!own.ends_with(".norm.gain") || find_parameter_or_none(plain_list, bias) >= 0) continue;
    slice.parameter = find_parameter_or_none(list, bias);
    slice.name = slice.name.substr(0, slice.name.rfind('.')) + ".bias";
    if (slice.parameter >= 0) names.push_back(slice);
  }
  return names;
}

}  // namespace normlab
