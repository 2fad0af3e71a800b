// Norms folded away: what frozen ones do to their input, done by the weights that read it.
#pragma once

#include "models/model.h"

namespace normlab {

// The configuration of a model without norms that computes what one of `config` does whose norms
// are frozen: with a head of its own, and where the norms have a bias with biases wherever one
// goes. Norms must stand before what they are folded into (NormPlacement::pre), or there must be
// none.
ModelConfig folded_config(const ModelConfig& config);

// Fills a model of folded_config() with the weights of `frozen`, all of whose norms are frozen.
// What reads W·(gain ⊙ (x − mean)/σ + bias) + b becomes W'·x + b' with W' = W·diag(gain/σ)·(I −
// 11ᵀ/C), b' = b + W·bias; RMSNorm has neither mean nor bias. In double precision, rounded once.
void fold_norms(Model& folded, const Model& frozen);

}  // namespace normlab
