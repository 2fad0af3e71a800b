#include "kernels/ops.h"

#include "kernels/cpu/make_cpu_ops.h"
#include "kernels/cuda_ops.h"

namespace normlab {

std::unique_ptr<Ops> make_ops(Device device, Precision precision, int threads, int gpu) {
  switch (device) {
    case Device::cpu:
      return make_cpu_ops(precision, threads);
    case Device::cuda:
      return make_cuda_ops(precision, gpu);
  }
  throw Error("unknown device");
}

}  // namespace normlab
