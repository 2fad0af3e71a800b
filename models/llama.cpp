// LLaMA (Touvron et al. 2023) in the sizes of "The Curse of Depth" (LayerNorm-Scaling's
// configs/llama_*.json), and the names of its tensors in Hugging Face's files; Mistral's and
// Qwen2's are the same, with Qwen2's biases. (LLaMA itself has none; folded LayerNorms leave some.)
#include <array>

#include "models/names.h"

namespace normlab {
namespace {

constexpr std::array<PublishedSize, 13> kSizes{{
    {"9m", 128, 352, 4, 4, 32000, 1024},
    {"20m", 256, 688, 4, 4, 32000, 1024},
    {"35m", 384, 1024, 8, 6, 32000, 1024},
    {"40m", 416, 1024, 8, 8, 32000, 1024},
    {"60m", 512, 1376, 8, 8, 32000, 1024},
    {"71m", 512, 1368, 8, 12, 32000, 1024},
    {"100m", 640, 1708, 10, 12, 32100, 1024},
    {"130m", 768, 2048, 12, 12, 32000, 1024},
    {"250m", 768, 2560, 16, 24, 32000, 1024},
    {"350m", 1024, 2736, 16, 24, 32000, 1024},
    {"1b", 2048, 5461, 32, 24, 32000, 1024},
    {"3b", 2560, 6848, 32, 32, 32000, 1024},
    {"7b", 4096, 11008, 32, 32, 32000, 2048},
}};

}  // namespace

ModelConfig llama_defaults() {
  ModelConfig config;
  config.family = Family::llama;
  config.positions = Positions::rope;
  config.activation = Activation::swiglu;
  config.biases = Biases::none;
  config.tie_embeddings = false;
  config.norm.kind = NormKind::rmsnorm;
  config.norm.epsilon = 1e-6;
  config.init.kind = InitKind::normal;
  return config;
}

std::vector<std::string> llama_sizes() {
  std::vector<std::string> names;
  for (const PublishedSize& size : kSizes) names.emplace_back(size.name);
  return names;
}

ModelConfig llama_config(const std::string& name) {
  for (const PublishedSize& size : kSizes) {
    if (name != size.name) continue;
    ModelConfig config = llama_defaults();
    config.layers = size.layers;
    config.width = size.width;
    config.heads = config.kv_heads = size.heads;
    config.head_size = size.width / size.heads;
    config.feed_forward = size.feed_forward;
    config.vocabulary = size.vocabulary;
    config.context = size.context;
    return config;
  }
  std::string names;
  for (const PublishedSize& size : kSizes)
    names += std::string(names.empty() ? "" : ", ") + size.name;
  throw input_error("model.size = " + name + " (no such llama size). Use one of " + names);
}

std::vector<NamedSlice> llama_names(const ModelConfig& config) {
  NameMap map(config);
  map.whole("model.embed_tokens.weight", "embedding.token");
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string file = "model.layers." + std::to_string(layer) + ".";
    const std::string own = "layers." + std::to_string(layer) + ".";
    const int64_t queries = config.query_columns();
    const int64_t keys = config.kv_columns();
    map.whole_if_any(file + "input_layernorm.weight", own + "attention.norm.gain");
    map.rows(file + "self_attn.q_proj.weight", own + "attention.qkv.weight", 0, queries);
    map.rows(file + "self_attn.k_proj.weight", own + "attention.qkv.weight", queries, keys);
    map.rows(file + "self_attn.v_proj.weight", own + "attention.qkv.weight", queries + keys, keys);
    if (config.biases != Biases::none) {
      map.elements(file + "self_attn.q_proj.bias", own + "attention.qkv.bias", 0, queries);
      map.elements(file + "self_attn.k_proj.bias", own + "attention.qkv.bias", queries, keys);
      map.elements(file + "self_attn.v_proj.bias", own + "attention.qkv.bias", queries + keys,
                   keys);
    }
    map.whole(file + "self_attn.o_proj.weight", own + "attention.out.weight");
    map.whole_if_any(file + "post_attention_layernorm.weight", own + "mlp.norm.gain");
    map.rows(file + "mlp.gate_proj.weight", own + "mlp.in.weight", 0, config.feed_forward);
    map.rows(file + "mlp.up_proj.weight", own + "mlp.in.weight", config.feed_forward,
             config.feed_forward);
    map.whole(file + "mlp.down_proj.weight", own + "mlp.out.weight");
    if (config.biases == Biases::all) {
      map.whole(file + "self_attn.o_proj.bias", own + "attention.out.bias");
      map.elements(file + "mlp.gate_proj.bias", own + "mlp.in.bias", 0, config.feed_forward);
      map.elements(file + "mlp.up_proj.bias", own + "mlp.in.bias", config.feed_forward,
                   config.feed_forward);
      map.whole(file + "mlp.down_proj.bias", own + "mlp.out.bias");
    }
  }
  map.whole_if_any("model.norm.weight", "final.norm.gain");
  map.whole_if_any("lm_head.weight", "head.weight");
  map.whole_if_any("lm_head.bias", "head.bias");
  return map.take();
}

}  // namespace normlab
