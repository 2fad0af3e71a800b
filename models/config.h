// ModelConfig: what a model is, as plain data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace normlab {

enum class Family { gpt2, llama };
enum class Activation { gelu, swiglu };
enum class Positions { learned, rope };
// Which products of a layer have a bias.
enum class Biases {
  none,  // LLaMA, Mistral
  qkv,   // of attention's queries, keys and values only (Qwen2)
  all,   // GPT-2
};

enum class NormPlacement {
  pre,   // x ← x + f(N(x))
  post,  // x ← N(x + f(x))
  none,  // x ← x + f(x), and none before the head: what is left when norms are folded away
};

struct NormConfig {
  NormKind kind = NormKind::layernorm;
  NormPlacement placement = NormPlacement::pre;
  double epsilon = 1e-5;
};

enum class InitKind {
  normal,  // N(0, std) for every matrix
  scaled,  // the same, projections back into the residual std/√(2·layers) (GPT-2)
};

struct InitConfig {
  InitKind kind = InitKind::scaled;
  double std = 0.02;
  double embedding_std = 0.02;
};

struct ModelConfig {
  Family family = Family::gpt2;
  int64_t layers = 0;
  int64_t width = 0;         // C
  int64_t heads = 0;         // H
  int64_t kv_heads = 0;      // H_kv, divides heads
  int64_t head_size = 0;     // D, even with rotary positions
  int64_t feed_forward = 0;  // F
  int64_t vocabulary = 0;    // V
  int64_t context = 0;       // most tokens of a sequence
  Positions positions = Positions::learned;
  double rope_base = 10000;
  Activation activation = Activation::gelu;
  Biases biases = Biases::all;
  bool tie_embeddings = true;  // head = token embedding
  bool head_bias = false;      // logits have a bias of their own (a folded LayerNorm's)
  double dropout = 0;          // on embedding, branches and attention probabilities
  NormConfig norm;
  InitConfig init;

  int64_t query_columns() const { return heads * head_size; }
  int64_t kv_columns() const { return kv_heads * head_size; }
  int64_t packed_columns() const { return query_columns() + 2 * kv_columns(); }
  // Columns of the MLP's first product: gate beside up for SwiGLU.
  int64_t hidden_columns() const {
    return activation == Activation::swiglu ? 2 * feed_forward : feed_forward;
  }
};

// The published configurations. Sizes: gpt2 small, medium, large, xl; llama 9m … 7b
// (github.com/lmsdss/LayerNorm-Scaling, configs/). Throws an input Error that lists them.
ModelConfig gpt2_config(const std::string& size);
ModelConfig llama_config(const std::string& size);
// A family's defaults with every dimension 0.
ModelConfig gpt2_defaults();
ModelConfig llama_defaults();
std::vector<std::string> gpt2_sizes();
std::vector<std::string> llama_sizes();

// Throws an input Error on a shape that cannot be: "width = 100 (must be a multiple of heads =
// 12)".
void validate(const ModelConfig& config);
// Number of trainable numbers.
int64_t parameter_count(const ModelConfig& config);

}  // namespace normlab
