// The form in which LN-free models are published: a stock model with norms whose epsilon is s² and
// whose gains are times s/σ, so that each divides by √(variance + s²), which is s, whatever comes
// in
// ("Transformers Don't Need LayerNorm at Inference Time", its utils.py). One gain serves queries,
// keys and values: where values divide by another σ, their weights take the ratio.
#pragma once

#include <vector>

#include "engine/norm_states.h"
#include "models/model.h"

namespace normlab {

// The configuration of that stock model.
ModelConfig ln_free_config(const ModelConfig& config, double scale);
// Fills a model of it with the weights of `frozen`, all of whose norms are frozen.
void fill_ln_free(Model& stock, const Model& frozen, double scale);

// And back. Of each parameter what its numbers in such a file are multiplied by to have them as
// they were: σ/s for the gains of `norms`, else 1.
std::vector<double> ln_free_factors(const Model& model, const std::vector<NormRecord>& norms,
                                    double scale);
// Takes the ratio out of the values' weights again; of the masters where there are some.
void restore_values(Model& model, const std::vector<NormRecord>& norms, Tensor masters);

}  // namespace normlab
