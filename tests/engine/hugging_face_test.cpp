#include "engine/hugging_face.h"

#include <nlohmann/json.hpp>

#include "catch.h"
#include "small_model.h"
#include "temporary_folder.h"

using namespace normlab;
using namespace normlab::test;
using nlohmann::json;

namespace {

ModelDescription read(const std::string& text) {
  const TemporaryFolder folder;
  folder.write("config.json", text);
  return read_config_json(folder.path());
}

// The message of reading it; "" where it is read.
std::string complaint_about(const std::string& text) {
  try {
    read(text);
  } catch (const Error& error) {
    return (error.kind() == ErrorKind::input ? "" : "WRONG KIND: ") + std::string(error.what());
  }
  return "";
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// As transformers write them.
const json gpt2 = {{"model_type", "gpt2"}, {"n_layer", 2},
                   {"n_embd", 16},         {"n_head", 4},
                   {"n_inner", nullptr},   {"n_positions", 12},
                   {"vocab_size", 19},     {"activation_function", "gelu_new"}};
const json llama = {
    {"model_type", "llama"},    {"num_hidden_layers", 2},   {"hidden_size", 16},
    {"num_attention_heads", 4}, {"num_key_value_heads", 2}, {"intermediate_size", 23},
    {"vocab_size", 19},         {"rope_scaling", nullptr},  {"rope_theta", 500000.0}};

json relative(const std::string& type) {
  json base = llama;
  base["model_type"] = type;
  base["max_position_embeddings"] = 4096;
  base.erase("rope_scaling");
  return base;
}

std::string with(json base, const std::string& key, const json& value) {
  base[key] = value;
  return base.dump();
}

void check_same(const ModelConfig& a, const ModelConfig& b) {
  CHECK(a.family == b.family);
  CHECK(a.layers == b.layers);
  CHECK(a.width == b.width);
  CHECK(a.heads == b.heads);
  CHECK(a.kv_heads == b.kv_heads);
  CHECK(a.head_size == b.head_size);
  CHECK(a.feed_forward == b.feed_forward);
  CHECK(a.vocabulary == b.vocabulary);
  CHECK(a.context == b.context);
  CHECK(a.positions == b.positions);
  CHECK(a.rope_base == b.rope_base);
  CHECK(a.activation == b.activation);
  CHECK(a.biases == b.biases);
  CHECK(a.tie_embeddings == b.tie_embeddings);
  CHECK(a.dropout == b.dropout);
  CHECK(a.norm.kind == b.norm.kind);
  CHECK(a.norm.placement == b.norm.placement);
  CHECK(a.norm.epsilon == b.norm.epsilon);
}

}  // namespace

TEST_CASE("config.json: what is written is read back to the same model") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    for (const NormPlacement placement : {NormPlacement::pre, NormPlacement::post}) {
      for (const NormKind kind : {NormKind::layernorm, NormKind::rmsnorm}) {
        ModelConfig config = small_config(family);
        config.norm = {kind, placement, 1.25e-7};
        config.tie_embeddings = family == Family::llama;
        config.dropout = 0.1;
        if (family == Family::llama) config.rope_base = 12345.5;
        const std::string text =
            config_json({config, "bytes", 7, 5, Packing::padded, true, PrecisionChoice::bf16});
        INFO(text);
        const ModelDescription description = read(text);
        check_same(description.config, config);
        CHECK(description.tokenizer == "bytes");
        CHECK(description.micro_batch == 7);
        CHECK(description.sequence_length == 5);
        CHECK(description.packing == Packing::padded);
        CHECK(description.mask_eot_targets);
        CHECK(description.precision == PrecisionChoice::bf16);
        // Only what other programs compute alike may look like theirs.
        const bool plain =
            placement == NormPlacement::pre &&
            kind == (family == Family::gpt2 ? NormKind::layernorm : NormKind::rmsnorm);
        const std::string type = family == Family::gpt2 ? "gpt2" : "llama";
        CHECK(json::parse(text).at("model_type") == (plain ? type : "normlab"));
        CHECK(json::parse(text).contains("architectures") == plain);
      }
    }
  }
}

TEST_CASE("config.json: files of other programs are read with their defaults") {
  const ModelConfig first = read(gpt2.dump()).config;
  CHECK(first.feed_forward == 64);
  CHECK(first.tie_embeddings);
  CHECK(first.norm.epsilon == 1e-5);
  CHECK(first.dropout == 0.1);
  CHECK(read(gpt2.dump()).tokenizer == "");
  CHECK(read(gpt2.dump()).end_of_text == -1);
  CHECK(read(gpt2.dump()).sequence_length == 0);
  CHECK(read(gpt2.dump()).packing == Packing::concatenated);
  CHECK(!read(gpt2.dump()).mask_eot_targets);
  CHECK(read(with(gpt2, "n_inner", 40)).config.feed_forward == 40);

  const ModelConfig second = read(llama.dump()).config;
  CHECK(second.head_size == 4);
  CHECK(second.kv_heads == 2);
  CHECK(second.rope_base == 500000);
  CHECK(second.context == 2048);
  CHECK(!second.tie_embeddings);
  CHECK(second.norm.epsilon == 1e-6);
  CHECK(read(with(llama, "head_dim", 6)).config.head_size == 6);
  CHECK(read(with(llama, "num_key_value_heads", nullptr)).config.kv_heads == 4);
  const json rope = {{"rope_type", "default"}, {"rope_theta", 7.0}};
  CHECK(read(with(llama, "rope_parameters", rope)).config.rope_base == 7);
}

TEST_CASE("config.json: qwen2 has biases of queries, keys and values, mistral none") {
  CHECK(read(relative("qwen2").dump()).config.biases == Biases::qkv);
  const ModelDescription mistral = read(relative("mistral").dump());
  CHECK(mistral.config.biases == Biases::none);
  CHECK(mistral.config.family == Family::llama);
  CHECK(json::parse(config_json(mistral)).at("model_type") == "mistral");
  CHECK(json::parse(config_json(mistral)).at("sliding_window").is_null());
  CHECK(read(with(relative("mistral"), "head_dim", 6)).config.head_size == 6);
  CHECK(read(with(relative("qwen2"), "head_dim", 6)).config.head_size == 6);
  // What transformers takes where a file says nothing.
  json bare = relative("mistral");
  bare["num_attention_heads"] = 16;
  bare["head_dim"] = 4;
  bare.erase("num_key_value_heads");
  CHECK(read(bare.dump()).config.kv_heads == 8);
  CHECK(read(with(bare, "num_key_value_heads", nullptr)).config.kv_heads == 16);
  bare["sliding_window"] = nullptr;
  bare.erase("max_position_embeddings");
  CHECK(read(bare.dump()).config.context == 131072);
  json qwen2 = relative("qwen2");
  qwen2.erase("max_position_embeddings");
  CHECK(read(qwen2.dump()).config.context == 32768);
}

TEST_CASE("config.json: a llama whose width its heads do not divide is a mistral to others") {
  ModelConfig config = small_config(Family::llama);
  config.width = 18;
  CHECK(json::parse(config_json({config})).at("model_type") == "mistral");
  check_same(read(config_json({config})).config, config);
}

TEST_CASE("config.json: a rope base is taken from where transformers takes it") {
  json file = llama;
  file["rope_parameters"] = {{"rope_type", "default"}};
  CHECK(read(file.dump()).config.rope_base == 500000);
  file["rope_parameters"] = {{"rope_theta", 7}, {"type", "default"}, {"partial_rotary_factor", 1}};
  CHECK(read(file.dump()).config.rope_base == 7);
  file["rope_scaling"] = json::object();
  CHECK(read(file.dump()).config.rope_base == 7);
  file["rope_scaling"] = {{"type", "default"}, {"rope_theta", 9}};
  CHECK(read(file.dump()).config.rope_base == 9);
  file.erase("rope_scaling");
  file.erase("rope_parameters");
  file.erase("rope_theta");
  CHECK(read(file.dump()).config.rope_base == 10000);
}

TEST_CASE("config.json: a sliding window is refused only where it cuts something off") {
  const auto complaint = [](json base, const std::vector<std::pair<std::string, json>>& more) {
    for (const auto& [key, value] : more) base[key] = value;
    return complaint_about(base.dump());
  };
  const json mistral = relative("mistral");
  CHECK(complaint(mistral, {}) == "");  // the default of 4096 is the context
  CHECK(complaint(mistral, {{"sliding_window", 4096}}) == "");
  CHECK(complaint(mistral, {{"sliding_window", nullptr}, {"max_position_embeddings", 4097}}) == "");
  CHECK(has(complaint(mistral, {{"sliding_window", 4095}}),
            "sliding_window = 4095 (attention within a window shorter than the context of 4096 is "
            "not computed here). Use a model without it"));
  CHECK(has(complaint(mistral, {{"max_position_embeddings", 4097}}),
            "sliding_window = 4096 (attention within a window shorter than the context of 4097, "
            "mistral's default, is not computed here)"));
  CHECK(has(complaint(llama, {{"sliding_window", 3}}), "sliding_window = 3"));
  CHECK(complaint(llama, {{"sliding_window", nullptr}}) == "");

  const json qwen2 = relative("qwen2");
  CHECK(complaint(qwen2, {{"sliding_window", 3}}) == "");
  CHECK(complaint(qwen2, {{"use_sliding_window", false}, {"sliding_window", 3}}) == "");
  const std::vector<std::pair<std::string, json>> slides = {{"use_sliding_window", true},
                                                            {"sliding_window", 3}};
  CHECK(complaint(qwen2, slides) == "");  // from layer 28 on, and there are two
  json first = qwen2;
  first["max_window_layers"] = 1;
  CHECK(has(complaint(first, slides), "sliding_window = 3"));
  first["layer_types"] = {"full_attention", "full_attention"};
  CHECK(complaint(first, slides) == "");
  first["layer_types"] = {"full_attention", "sliding_attention"};
  CHECK(has(complaint(first, slides), "sliding_window = 3"));
  first["layer_types"] = {"full_attention", "linear_attention"};
  CHECK(has(complaint(first, {}), "layer_types = "));
}

TEST_CASE("config.json: keys that change no logits are ignored") {
  for (const auto& [key, value] : std::vector<std::pair<std::string, json>>{
           {"use_cache", false},
           {"pretraining_tp", 2},
           {"task_specific_params", {{"text-generation", {{"max_length", 50}}}}},
           {"pruned_heads", json::object()},
           {"quantization_config", nullptr},
           {"is_encoder_decoder", false},
           {"somebody's own", {1, 2}}}) {
    INFO(key);
    CHECK(complaint_about(with(gpt2, key, value)) == "");
    CHECK(complaint_about(with(llama, key, value)) == "");
  }
  CHECK(complaint_about(with(gpt2, "hidden_size", 16)) == "");
}

TEST_CASE("config.json: a model without norms, its head biased, is read again as it was") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    for (const ModelForm form : {ModelForm::own, ModelForm::modelling}) {
      ModelDescription description{small_config(family)};
      description.config.norm.placement = NormPlacement::none;
      description.config.tie_embeddings = false;
      description.config.head_bias = true;
      description.config.biases = Biases::all;
      description.form = form;
      const std::string text = config_json(description);
      const ModelDescription again = read(text);
      check_same(again.config, description.config);
      CHECK(again.form == form);
      CHECK(again.config.head_bias);
      const std::string type =
          form == ModelForm::own
              ? "normlab"
              : std::string("normlab_") + (family == Family::gpt2 ? "gpt2" : "llama");
      CHECK(json::parse(text).at("model_type") == type);
      CHECK(json::parse(text).contains("auto_map") == (form == ModelForm::modelling));
    }
  }
}

TEST_CASE("config.json: an epsilon of 1e6 or more makes a model LN-free, but for a file of ours") {
  CHECK(read(with(gpt2, "layer_norm_epsilon", 9.9e5)).form == ModelForm::own);
  CHECK(read(with(gpt2, "layer_norm_epsilon", 9.9e5)).norms.empty());
  const ModelDescription description = read(with(gpt2, "layer_norm_epsilon", 1e6));
  CHECK(description.form == ModelForm::ln_free);
  CHECK(description.ln_free_scale == 1000);
  CHECK(description.norms.size() == 7);
  CHECK(read(with(llama, "rms_norm_eps", 1099511627776.0)).ln_free_scale == 1048576);
  // Who has set such an epsilon here has meant it.
  json own = json::parse(config_json({small_config(Family::gpt2)}));
  CHECK(read(with(own, "layer_norm_epsilon", 1e12)).form == ModelForm::own);
}

TEST_CASE("config.json: what is broken in an LN-free file of ours is named") {
  ModelDescription description{small_config(Family::gpt2)};
  description.norms = frozen_norms(description.config.norm, 2, 1.5);
  description.form = ModelForm::ln_free;
  description.ln_free_scale = 1e6;
  const json good = json::parse(config_json(description));
  CHECK(complaint_about(good.dump()) == "");
  const auto broken = [&](const std::string& key, const json& value) {
    json file = good;
    file["normlab"][key] = value;
    return complaint_about(file.dump());
  };
  CHECK(has(broken("ln_free", 3), "normlab.ln_free"));
  CHECK(has(broken("ln_free", {{"epsilon", "small"}}), "normlab.ln_free"));
  json norms = good["normlab"]["norms"];
  norms.erase(2);
  CHECK(has(broken("norms", norms), "must name every norm once, its gate 0"));
  norms.push_back(norms[0]);
  CHECK(has(broken("norms", norms), "must name every norm once, its gate 0"));
  norms.back() = good["normlab"]["norms"][2];
  CHECK(broken("norms", norms) == "");
  norms.back()["gate"] = 0.5;
  CHECK(has(broken("norms", norms), "must name every norm once, its gate 0"));
  norms.back()["gate"] = 0;
  norms.back()["special_std"] = 40;
  norms.back()["special_id"] = 3;
  CHECK(has(broken("norms", norms), "must name every norm once, its gate 0, with one std"));
  norms.back()["std"] = 0;
  CHECK(has(broken("norms", norms), "no std above 0"));
  CHECK(has(complaint_about(with(good, "layer_norm_epsilon", 1e-5)),
            "the epsilon of its norms is no large one"));
}

TEST_CASE("config.json: ids that begin and end a text are read and written") {
  ModelDescription description = read(with(llama, "eos_token_id", json::array({2, 3})));
  CHECK(description.begin_of_text == -1);
  CHECK(description.end_of_text == 2);
  description.begin_of_text = 0;
  const json written = json::parse(config_json(description));
  CHECK(written.at("bos_token_id") == 0);
  CHECK(written.at("eos_token_id") == 2);
  CHECK(json::parse(config_json({small_config(Family::gpt2)})).at("eos_token_id").is_null());
}

TEST_CASE("config.json: a feature that is not computed is an error that names its key") {
  const auto refused = [](const json& base, const std::string& key, const json& value) {
    INFO(key << " = " << value.dump());
    const std::string message = complaint_about(with(base, key, value));
    INFO(message);
    CHECK(has(message, "config.json: " + key + " = " + value.dump()));
  };
  for (const json& base : {gpt2, llama, relative("mistral"), relative("qwen2")}) {
    refused(base, "quantization_config", {{"quant_method", "gptq"}});
    refused(base, "per_layer_config", {{"0", {{"head_dim", 3}}}});
    refused(base, "pruned_heads", {{"1", {0}}});
    refused(base, "is_encoder_decoder", true);
  }
  for (const char* type : {"mistral", "qwen2"}) {
    refused(relative(type), "rope_parameters", {{"rope_type", "linear"}, {"factor", 2.0}});
    refused(relative(type), "hidden_act", "gelu");
  }
  refused(gpt2, "reorder_and_upcast_attn", true);
  refused(gpt2, "hidden_size", 32);
  refused(llama, "partial_rotary_factor", 0.5);
  refused(llama, "rope_parameters", {{"rope_type", "default"}, {"partial_rotary_factor", 0.5}});
  refused(llama, "rope_scaling", {{"type", "linear"}, {"factor", 2.0}});
  refused(llama, "layer_types", {"full_attention", "chunked_attention"});
  refused(gpt2, "activation_function", "gelu");
  refused(gpt2, "activation_function", "relu");
  refused(gpt2, "scale_attn_weights", false);
  refused(gpt2, "scale_attn_by_inverse_layer_idx", true);
  refused(gpt2, "add_cross_attention", true);
  refused(gpt2, "model_type", "gpt_neo");
  refused(llama, "rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}});
  refused(llama, "rope_parameters", {{"rope_type", "yarn"}, {"rope_theta", 1e4}});
  refused(llama, "rope_parameters", 3);
  refused(llama, "hidden_act", "gelu");
  refused(llama, "attention_bias", true);
  refused(llama, "mlp_bias", true);
}

TEST_CASE("config.json: what is missing or of another type is named") {
  for (const std::string key : {"n_layer", "n_embd", "n_head", "n_positions", "vocab_size"}) {
    json less = gpt2;
    less.erase(key);
    CHECK(has(complaint_about(less.dump()), key));
    CHECK(has(complaint_about(with(gpt2, key, "many")), key));
    CHECK(has(complaint_about(with(gpt2, key, 1.5)), key));
    CHECK(has(complaint_about(with(gpt2, key, 5'000'000'000)), key + " = 5000000000 (no model"));
  }
  CHECK(has(complaint_about(with(gpt2, "n_head", 3)), "n_head"));
  CHECK(has(complaint_about(with(gpt2, "n_head", 0)), "n_head"));
  CHECK(has(complaint_about(with(gpt2, "n_layer", 0)), "layers"));
  CHECK(has(complaint_about(with(llama, "num_attention_heads", 0)), "num_attention_heads"));
  CHECK(has(complaint_about(with(llama, "rope_parameters", {{"rope_type", 3}, {"rope_theta", 1}})),
            "rope_parameters"));
  CHECK(has(complaint_about(with(gpt2, "normlab", {{"placement", "sideways"}})), "sideways"));
  CHECK(has(complaint_about(with(gpt2, "normlab", {{"packing", "tight"}})), "tight"));
  CHECK(has(complaint_about(with(gpt2, "normlab", {{"norm", 3}})), "normlab"));
  CHECK(has(complaint_about(with(gpt2, "normlab", 3)), "normlab"));
  CHECK(has(complaint_about("{"), "is not JSON"));
  CHECK(has(complaint_about("[]"), "is not a JSON object"));
  CHECK(
      has(complaint_about("{\"rope_parameters\":" + std::string(1'000'000, '[')), "nests deeper"));
  CHECK(has(complaint_about("{}"), "model_type"));
  try {
    read_config_json("none");
    FAIL("a missing directory was read");
  } catch (const Error& error) {
    CHECK(has(error.what(), "none/config.json"));
  }
}
