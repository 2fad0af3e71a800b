// The section `norm_removal` of a configuration.
#pragma once

#include "engine/config.h"
#include "engine/config_reader.h"

namespace normlab {

// `config.batch`, `config.parallel` and `config.schedule` are read before.
void read_norm_removal(const Section& removal, Config& config);

}  // namespace normlab
