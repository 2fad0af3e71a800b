// Built in place of kernels/cuda where the build has no CUDA part.
#include "cuda_absence.h"
#include "kernels/cuda_ops.h"

namespace normlab {

std::unique_ptr<Ops> make_cuda_ops(Precision, int) {
  throw input_error("run.device = cuda (" + cuda_status() + "). Use device: cpu or auto");
}

bool cuda_available() { return false; }

std::string cuda_status() { return std::string("this build has no CUDA part: ") + kCudaAbsence; }

}  // namespace normlab
