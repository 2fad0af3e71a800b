// Probe: how analyses and diagnostics look inside a pass.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace normlab {

enum class ProbeSite {
  embedding,      // (N,C) before dropout
  residual_pre,   // (N,C) the residual stream before a layer
  residual_mid,   // between its attention and its MLP
  residual_post,  // after it
  norm_std,       // (N,2) {mean, 1/std} of the norm before attention, before the MLP, in turn
  q,              // (N,H·D) after rotation
  k,              // (N,H_kv·D) after rotation
  attention_lse,  // (B·H,T)
  attention_z,    // (N,H·D)
  attention_out,  // (N,C) the branch, before dropout
  mlp_pre,        // (N,F or 2F)
  mlp_post,       // (N,F)
  mlp_out,        // (N,C) the branch, before dropout
  final_pre,      // (N,C) before the last norm
  final,          // (N,C) the head's input
  logits,         // (rows of a chunk, V)
};

// Called in the order of the pass at each site, with the live tensor: it may read it or write it
// in place. A reading probe changes no bit of the result; without a probe a pass costs nothing
// more. `layer` counts from 0, −1 outside the layers; `first_row` is the first row of `tensor` in
// the batch (0 but for chunks of logits).
class Probe {
 public:
  virtual ~Probe() = default;
  virtual void activation(ProbeSite site, int64_t layer, Tensor tensor, int64_t first_row) = 0;
  // The gradient of what `activation` showed there. That of a branch is, without dropout, the
  // stream's own memory: who writes the one writes the other.
  virtual void gradient(ProbeSite, int64_t, Tensor, int64_t) {}
};

}  // namespace normlab
