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

TEST_CASE("config.json: a feature that is not computed is an error that names its key") {
  const auto refused = [](const json& base, const std::string& key, const json& value) {
    INFO(key << " = " << value.dump());
    const std::string message = complaint_about(with(base, key, value));
    INFO(message);
    CHECK(has(message, "config.json: " + key + " = " + value.dump()));
  };
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
  CHECK(has(complaint_about("{}"), "model_type"));
  try {
    read_config_json("none");
    FAIL("a missing directory was read");
  } catch (const Error& error) {
    CHECK(has(error.what(), "none/config.json"));
  }
}
