// The backend of CUDA, for ops.cpp.
#pragma once

#include <memory>

#include "kernels/ops.h"

namespace normlab {

// Operations on the current CUDA device. Throws Error where there is none.
std::unique_ptr<Ops> make_cuda_ops(Precision precision);

}  // namespace normlab
