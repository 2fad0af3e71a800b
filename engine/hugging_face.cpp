#include "engine/hugging_face.h"

#include <nlohmann/json.hpp>

#include "engine/config_names.h"

namespace normlab {
namespace {

using nlohmann::json;

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

// Who computes a model of the modelling file.
struct ModellingNames {
  std::string type, file, config_class, model_class;
};
ModellingNames modelling_names(Family family) {
  switch (family) {
    case Family::gpt2:
      return {"normlab_gpt2", "modeling_normlab_gpt2", "NormlabGPT2Config",
              "NormlabGPT2LMHeadModel"};
    case Family::llama:
      return {"normlab_llama", "modeling_normlab_llama", "NormlabLlamaConfig",
              "NormlabLlamaForCausalLM"};
  }
  throw Error("unknown family");
}

// The model_type under which transformers computes the model. A llama must have a width that is a
// multiple of its heads there; a mistral, the same but for a window, need not.
std::string plain_type(const ModelDescription& description) {
  const ModelConfig& config = description.config;
  switch (config.family) {
    case Family::gpt2:
      return "gpt2";
    case Family::llama:
      if (config.biases == Biases::qkv) return "qwen2";
      return description.mistral || config.width % config.heads != 0 ? "mistral" : "llama";
  }
  throw Error("unknown family");
}

json gpt2_json(const ModelConfig& config) {
  return {{"architectures", {"GPT2LMHeadModel"}},
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

json llama_json(const ModelConfig& config, const std::string& type) {
  json out = {{"num_hidden_layers", config.layers},
              {"hidden_size", config.width},
              {"num_attention_heads", config.heads},
              {"num_key_value_heads", config.kv_heads},
              {"head_dim", config.head_size},
              {"intermediate_size", config.feed_forward},
              {"max_position_embeddings", config.context},
              {"rms_norm_eps", config.norm.epsilon},
              {"hidden_act", "silu"},
              {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", config.rope_base}}}};
  if (type == "llama") {
    out["architectures"] = {"LlamaForCausalLM"};
    out["attention_bias"] = out["mlp_bias"] = false;
    return out;
  }
  // transformers' default is a window of 4096.
  out["sliding_window"] = nullptr;
  if (type == "qwen2") out["use_sliding_window"] = false;
  out["architectures"] = {type == "qwen2" ? "Qwen2ForCausalLM" : "MistralForCausalLM"};
  return out;
}

json id_json(int64_t id) { return id < 0 ? json() : json(id); }

json own_section(const ModelDescription& description) {
  const ModelConfig& config = description.config;
  json own = {{"family", name_of(config.family, family_names)},
              {"norm", name_of(config.norm.kind, norm_kind_names)},
              {"placement", name_of(config.norm.placement, placement_names)},
              {"post_layers", config.norm.post_layers},
              {"lns_position", name_of(config.norm.lns_position, lns_position_names)},
              {"lns_sublayers", name_of(config.norm.lns_sublayers, lns_sublayers_names)},
              {"branch", name_of(config.norm.branch, branch_scale_names)},
              {"gpas", config.norm.gpas},
              {"biases", name_of(config.biases, biases_names)},
              {"head_bias", config.head_bias},
              {"dropout", config.dropout},
              {"tokenizer", description.tokenizer},
              {"micro_batch", description.micro_batch},
              {"sequence_length", description.sequence_length},
              {"packing", name_of(description.packing, packing_names)},
              {"norms", norms_to_json(description.norms)},
              {"mask_eot_targets", description.mask_eot_targets},
              {"precision", name_of(description.precision, precision_names)}};
  if (description.form == ModelForm::ln_free) {
    own["ln_free"] = {{"scale", description.ln_free_scale}, {"epsilon", config.norm.epsilon}};
  }
  return own;
}

// By what model_type, and so by which class, the model is computed.
void name_type(json& out, const ModelDescription& description) {
  const ModelConfig& config = description.config;
  switch (description.form) {
    case ModelForm::own:
      if (beyond_plain(config).empty() && description.norms.empty()) return;
      out["model_type"] = "normlab";
      out.erase("architectures");
      return;
    case ModelForm::ln_free: {
      const char* key = config.family == Family::gpt2 ? "layer_norm_epsilon" : "rms_norm_eps";
      out[key] = description.ln_free_scale * description.ln_free_scale;
      return;
    }
    case ModelForm::modelling: {
      const ModellingNames names = modelling_names(config.family);
      out["model_type"] = names.type;
      // The modelling file's LLaMA is Mistral, whose default is a window of 4096.
      if (config.family == Family::llama) out["sliding_window"] = nullptr;
      out["architectures"] = {names.model_class};
      out["auto_map"] = {{"AutoConfig", names.file + "." + names.config_class},
                         {"AutoModelForCausalLM", names.file + "." + names.model_class}};
      return;
    }
  }
}

// What no plain model has goes by our own name.
void add_own_names(std::vector<NamedSlice>& names, const std::vector<Parameter>& list) {
  std::vector<bool> named(list.size());
  for (const NamedSlice& slice : names) named[static_cast<size_t>(slice.parameter)] = true;
  for (size_t i = 0; i < list.size(); ++i) {
    if (named[i]) continue;
    const int64_t elements = list[i].value.elements();  // a vector: all matrices are named
    names.push_back(
        {"normlab." + list[i].name, static_cast<int>(i), 0, elements, Shape{elements}, false});
  }
}

}  // namespace

std::string modelling_file(Family family) { return modelling_names(family).file; }

std::string beyond_plain(const ModelConfig& config) {
  const bool gpt2 = config.family == Family::gpt2;
  const std::string family = gpt2 ? "GPT-2" : "LLaMA";
  if (config.norm.placement == NormPlacement::none) {
    return "no norms, where " + family + " has them before each sublayer";
  }
  if (config.head_bias) return "a bias of the head, where " + family + " has none";
  if (config.norm.branch != BranchScale::none) return "learnt factors of its branches";
  if (config.norm.gpas) return "gates on its residual stream (gpas)";
  if (config.norm.placement != NormPlacement::pre) {
    return std::string("norms in the place \"") + name_of(config.norm.placement, placement_names) +
           "\", where " + family + " has them before each sublayer";
  }
  if (config.norm.kind != plain_norm_kind(config.family)) {
    return std::string("norms of the kind ") + name_of(config.norm.kind, norm_kind_names) +
           ", where " + family + " has " + name_of(plain_norm_kind(config.family), norm_kind_names);
  }
  if ((config.biases == Biases::all) != gpt2)
    return "biases elsewhere than " + family + " has them";
  return "";
}

std::string config_json(const ModelDescription& description) {
  const ModelConfig& config = description.config;
  const std::string type = plain_type(description);
  json out = config.family == Family::gpt2 ? gpt2_json(config) : llama_json(config, type);
  out["model_type"] = type;
  out["vocab_size"] = config.vocabulary;
  out["tie_word_embeddings"] = config.tie_embeddings;
  out["initializer_range"] = config.init.std;
  out["dtype"] = description.type;
  out["bos_token_id"] = id_json(description.begin_of_text);
  out["eos_token_id"] = id_json(description.end_of_text);
  out["normlab"] = own_section(description);
  name_type(out, description);
  return out.dump(2) + "\n";
}

std::vector<NamedSlice> file_names(const ModelConfig& config) {
  ModelConfig plain = config;
  plain.norm = {plain_norm_kind(config.family), config.norm.placement == NormPlacement::none
                                                    ? NormPlacement::none
                                                    : NormPlacement::pre};
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
  add_own_names(names, list);
  return names;
}

}  // namespace normlab
