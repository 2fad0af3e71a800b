// GPT-2 (Radford et al. 2019): its sizes, and the names of its tensors in Hugging Face's files.
#include <array>

#include "models/names.h"

namespace normlab {
namespace {

constexpr std::array<PublishedSize, 4> kSizes{{
    {"small", 768, 3072, 12, 12, 50257, 1024},
    {"medium", 1024, 4096, 16, 24, 50257, 1024},
    {"large", 1280, 5120, 20, 36, 50257, 1024},
    {"xl", 1600, 6400, 25, 48, 50257, 1024},
}};

}  // namespace

ModelConfig gpt2_defaults() { return {}; }

std::vector<std::string> gpt2_sizes() {
  std::vector<std::string> names;
  for (const PublishedSize& size : kSizes) names.emplace_back(size.name);
  return names;
}

ModelConfig gpt2_config(const std::string& name) {
  for (const PublishedSize& size : kSizes) {
    if (name != size.name) continue;
    ModelConfig config = gpt2_defaults();
    config.layers = size.layers;
    config.width = size.width;
    config.heads = config.kv_heads = size.heads;
    config.head_size = size.width / size.heads;
    config.feed_forward = size.feed_forward;
    config.vocabulary = size.vocabulary;
    config.context = size.context;
    return config;
  }
  throw input_error("model.size = " + name +
                    " (no such gpt2 size). Use small, medium, large or xl");
}

std::vector<NamedSlice> gpt2_names(const ModelConfig& config) {
  NameMap map(config);
  map.whole("transformer.wte.weight", "embedding.token");
  map.whole("transformer.wpe.weight", "embedding.position");
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string file = "transformer.h." + std::to_string(layer) + ".";
    const std::string own = "layers." + std::to_string(layer) + ".";
    map.whole_if_any(file + "ln_1.weight", own + "attention.norm.gain");
    map.whole_if_any(file + "ln_1.bias", own + "attention.norm.bias");
    map.turned(file + "attn.c_attn.weight", own + "attention.qkv.weight");
    map.whole(file + "attn.c_attn.bias", own + "attention.qkv.bias");
    map.turned(file + "attn.c_proj.weight", own + "attention.out.weight");
    map.whole(file + "attn.c_proj.bias", own + "attention.out.bias");
    map.whole_if_any(file + "ln_2.weight", own + "mlp.norm.gain");
    map.whole_if_any(file + "ln_2.bias", own + "mlp.norm.bias");
    map.turned(file + "mlp.c_fc.weight", own + "mlp.in.weight");
    map.whole(file + "mlp.c_fc.bias", own + "mlp.in.bias");
    map.turned(file + "mlp.c_proj.weight", own + "mlp.out.weight");
    map.whole(file + "mlp.c_proj.bias", own + "mlp.out.bias");
  }
  map.whole_if_any("transformer.ln_f.weight", "final.norm.gain");
  map.whole_if_any("transformer.ln_f.bias", "final.norm.bias");
  map.whole_if_any("lm_head.weight", "head.weight");
  map.whole_if_any("lm_head.bias", "head.bias");
  return map.take();
}

}  // namespace normlab
