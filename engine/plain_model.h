// Constants and learnt factors of a placement, folded into the weights beside them.
#pragma once

#include "models/model.h"

namespace normlab {

// The configuration of a model with plain norms (NormPlacement::pre) that computes what one of
// `config` does: where the placement is pre or lns, and a factor stands after a norm or after a
// sublayer. Else `config` itself.
ModelConfig plain_config(const ModelConfig& config);

// Fills a model of plain_config() with the weights of `model` and gives its norms the same states.
// LayerNorm Scaling's 1/√l goes into the norm's gain and bias, or into the projection after the
// sublayer, as LayerScale and SkipInit do. In double precision, rounded once.
void fill_plain(Model& plain, const Model& model);

}  // namespace normlab
