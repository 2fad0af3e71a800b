// The backend of the CPU, for ops.cpp.
#pragma once

#include <memory>

#include "kernels/ops.h"

namespace normlab {

// threads = 0: one for each core.
std::unique_ptr<Ops> make_cpu_ops(Precision precision, int threads);

}  // namespace normlab
