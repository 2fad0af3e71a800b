// The MLP sublayer: normed input to branch. GELU (GPT-2) or SwiGLU (LLaMA).
#pragma once

#include "kernels/arena.h"
#include "models/pass.h"

namespace normlab {

struct MlpLayer {
  int64_t layer = 0;
  // Parameters.
  int in_weight = -1, in_bias = -1, out_weight = -1, out_bias = -1;
  // Kept from forward to backward.
  Tensor hidden;     // (N, F), or (N, 2F) gate beside up
  Tensor activated;  // (N, F)
};

// Room that backward needs and nobody keeps.
struct MlpGradients {
  Tensor d_activated;  // (N, F)
  Tensor d_hidden;     // (N, F or 2F); d_activated itself for GELU
};

MlpLayer make_mlp_layer(const std::vector<Parameter>& parameters, int64_t layer);
void lay_out(MlpLayer& mlp, Arena& arena, const ModelConfig& config, int64_t rows,
             DType working_type);

// What is kept, of normed (N,C).
void mlp_activate(const PassContext& pass, MlpLayer& mlp, ConstTensor normed);
// branch (N,C) = W_out · act(W_in · normed); Shazeer 2020 for SwiGLU.
void mlp_forward(const PassContext& pass, MlpLayer& mlp, Tensor branch, ConstTensor normed);
// d_normed (N,C) from d_branch (N,C); accumulates the parameters' gradients.
void mlp_backward(const PassContext& pass, const MlpLayer& mlp, const MlpGradients& room,
                  Tensor d_normed, ConstTensor d_branch, ConstTensor normed);

}  // namespace normlab
