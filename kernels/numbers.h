// Numbers of a device tensor in double, whatever its type.
#pragma once

#include <vector>

#include "kernels/ops.h"

namespace normlab {

// Of a contiguous tensor of a floating type, in its order; waits. Exact.
std::vector<double> download_numbers(Ops& ops, ConstTensor tensor);
// The other way; rounded to the tensor's type.
void upload_numbers(Ops& ops, Tensor tensor, const std::vector<double>& values);

}  // namespace normlab
