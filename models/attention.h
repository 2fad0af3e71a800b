// The attention sublayer: normed input to branch. Knows nothing of residuals.
#pragma once

#include "kernels/arena.h"
#include "models/pass.h"

namespace normlab {

struct AttentionLayer {
  int64_t layer = 0;
  // Parameters.
  int qkv_weight = -1, qkv_bias = -1, out_weight = -1, out_bias = -1;
  // Kept from forward to backward.
  Tensor qkv;  // (N, packed) after rotation
  Tensor z;    // (N, H·D)
  Tensor lse;  // (B·H, T) in statistics_type()
  // Keys beside values of earlier tokens of one sequence, (context, 2·H_kv·D); generation only.
  Tensor cache;
};

// Room that backward needs and nobody keeps.
struct AttentionGradients {
  Tensor d_z;    // (N, H·D)
  Tensor d_qkv;  // (N, packed)
};

// What goes in: the same (N,C) for queries, keys and values, but where their norms differ.
template <typename View>
struct AttentionInput {
  View normed;
  View values;  // empty: `normed`
};

AttentionLayer make_attention_layer(const std::vector<Parameter>& parameters, int64_t layer);
void lay_out(AttentionLayer& attention, Arena& arena, const ModelConfig& config, int64_t batch,
             int64_t tokens, DType working_type, DType statistics_type);

// branch (N,C) = Attention(input); Vaswani et al. 2017, with rotary positions for LLaMA.
void attention_forward(const PassContext& pass, AttentionLayer& attention, Tensor branch,
                       const AttentionInput<ConstTensor>& input);
// The same for the next tokens of one sequence whose earlier keys and values are in the cache.
void attention_decode(const PassContext& pass, AttentionLayer& attention, Tensor branch,
                      const AttentionInput<ConstTensor>& input);
// d_input from d_branch (N,C); accumulates the parameters' gradients.
void attention_backward(const PassContext& pass, const AttentionLayer& attention,
                        const AttentionGradients& room, const AttentionInput<Tensor>& d_input,
                        ConstTensor d_branch, const AttentionInput<ConstTensor>& input);

}  // namespace normlab
