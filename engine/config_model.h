// The section `model` of a configuration.
#pragma once

#include "engine/config.h"
#include "engine/config_reader.h"

namespace normlab {

inline constexpr int64_t most_extent = 1'000'000;      // of a model's dimension
inline constexpr int64_t most_tokens = 2'147'483'647;  // of a vocabulary or a sequence: int32

// `config.data.sequence_length` is read before: it is the default of the context.
void read_model(const Section& model, Config& config);

}  // namespace normlab
