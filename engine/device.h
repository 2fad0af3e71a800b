// From a configuration to a device.
#pragma once

#include <memory>

#include "engine/config.h"

namespace normlab {

// auto: a GPU where there is one, else the CPU. Throws an input Error where the asked one is not
// there.
std::unique_ptr<Ops> make_device(const RunConfig& run);

}  // namespace normlab
