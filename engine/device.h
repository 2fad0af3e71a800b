// From a configuration to a device.
#pragma once

#include <memory>

#include "engine/config.h"

namespace normlab {

// The same with each `auto` replaced. Device: a GPU where there is one, else the CPU. Precision:
// bf16 on a GPU, fp32 on a CPU.
RunConfig resolve_device(RunConfig run);
// Of a device so resolved.
Precision precision_of(const RunConfig& run);
// Throws an input Error where the device that is asked for is not there. local_rank: among the
// ranks of this machine, which have one GPU each.
std::unique_ptr<Ops> make_device(const RunConfig& run, int local_rank = 0);

}  // namespace normlab
