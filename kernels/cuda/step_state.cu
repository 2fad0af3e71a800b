// What changes from step to step.
#include "kernels/cuda/cuda_ops.h"

namespace normlab {
namespace {

// One thread. The argument travels with the launch: the host's copy may be gone when this runs.
__global__ void set_step_state_kernel(DeviceState* state, StepState step) { state->step = step; }

}  // namespace

template <typename Working>
void CudaOps<Working>::set_step_state(const StepState& state) {
  launch("set_step_state", set_step_state_kernel, {dim3(1), dim3(1), 0, stream_}, state_, state);
}

template void CudaOps<float>::set_step_state(const StepState&);
template void CudaOps<BFloat16>::set_step_state(const StepState&);

}  // namespace normlab
