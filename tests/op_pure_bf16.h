// Training in bf16 alone, operator by operator, against torch (tests/golden/make_pure_bf16.py): the
// same bits on a CPU; on a GPU but for sums that are made in another order.
#pragma once

#include "kernels/ops.h"

namespace normlab {

void check_pure_adam(Device device);
void check_pure_v(Device device);
void check_pure_clipping(Device device);
void check_pure_gradients(Device device);
void check_pure_norm(Device device);
void check_pure_rope(Device device);
void check_pure_sum(Device device);
void check_pure_swiglu(Device device);
void check_pure_loss(Device device);

}  // namespace normlab
