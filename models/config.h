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

// Where a layer's norms stand; f is its attention, then its MLP. Every placement but `none` has a
// norm before the head.
enum class NormPlacement {
  pre,       // x ← x + f(N(x))
  post,      // x ← N(x + f(x))
  deepnorm,  // x ← N(α·x + f(x)), α = (2·layers)^¼ (Wang et al. 2022)
  // The same with α = 64^¼ whatever the layers, as LayerNorm-Scaling's code has it.
  deepnorm_reference,
  mix,       // the first post_layers post, the others pre (Mix-LN, Li et al. 2024)
  sandwich,  // x ← x + N'(f(N(x))) (Ding et al. 2021)
  peri,      // the same, and a norm of the embedding (Peri-LN, Kim et al. 2025)
  lns,  // x ← x + f(N(x)/√l), l = layer + 1 (LayerNorm Scaling, "The Curse of Depth", eq. 4)
  // As LayerNorm-Scaling's code alternates: the first seven layers pre, the others post or
  // sandwich;
  pre_post,
  pre_sandwich,
  // each fourth layer pre, the others post; and the reverse.
  post_pre_post_pre,
  pre_post_pre_post,
  none,  // x ← x + f(x), and none before the head: what is left when norms are folded away
};

// Where LayerNorm Scaling's factor 1/√l stands ("The Curse of Depth", table 8).
enum class LnsPosition {
  after_norm,      // f(N(x)/√l)
  before_norm,     // f(N(x/√l))
  after_sublayer,  // x + f(N(x))/√l
  after_residual,  // (x + f(N(x)))/√l
};
// Which sublayers have it.
enum class LnsSublayers { both, attention, mlp };

// A learnt factor of each branch, x ← x + λ·f(N(x)).
enum class BranchScale {
  none,
  layerscale,  // one a column (Touvron et al. 2021)
  skipinit,    // one for all (De & Smith 2020)
};

struct NormConfig {
  NormKind kind = NormKind::layernorm;
  NormPlacement placement = NormPlacement::pre;
  double epsilon = 1e-5;
  int64_t post_layers = 1;  // of mix
  LnsPosition lns_position = LnsPosition::after_norm;
  LnsSublayers lns_sublayers = LnsSublayers::both;
  BranchScale branch = BranchScale::none;
  // λ at the start; 0: 1/√layers for skipinit, and for layerscale 0.1, 1e-5 from 19 layers on and
  // 1e-6 from 25 on, as its authors have it.
  double branch_init = 0;
  // A learnt gate a layer on the stream, after each of its sums (GPAS, Chen et al. 2025).
  bool gpas = false;
  double slope_init = 0.5;  // α of dyt and derf at the start
};

constexpr bool is_elementwise(NormKind kind) {
  return kind == NormKind::dyt || kind == NormKind::derf;
}

enum class InitKind {
  normal,        // N(0, std) for every matrix
  scaled,        // the same, projections back into the residual std/√(2·layers) (GPT-2)
  depth_scaled,  // these std/√(2·l), l = layer + 1
  // Xavier's √(2/(in + out)), for values, projections back and all of the MLP times (8·layers)^−¼
  // (Wang et al. 2022); embeddings and head as `normal`.
  deepnorm,
  deepnorm_reference,  // the same times (8·layers)^+¼, as LayerNorm-Scaling's code has it
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
