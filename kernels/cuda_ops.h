// The backend of CUDA, for ops.cpp.
#pragma once

#include <memory>

#include "kernels/ops.h"

namespace normlab {

// Operations on a CUDA device, the process's current one from then on; see make_ops.
std::unique_ptr<Ops> make_cuda_ops(Precision precision, int gpu);

}  // namespace normlab
