#include "engine/device.h"

namespace normlab {

RunConfig resolve_device(RunConfig run) {
  if (run.device == DeviceChoice::automatic) {
    run.device = cuda_available() ? DeviceChoice::cuda : DeviceChoice::cpu;
  }
  if (run.precision == PrecisionChoice::automatic) {
    const bool cuda = run.device == DeviceChoice::cuda;
    run.precision = cuda ? PrecisionChoice::bf16 : PrecisionChoice::fp32;
  }
  return run;
}

Precision precision_of(const RunConfig& run) {
  switch (run.precision) {
    case PrecisionChoice::fp32:
      return Precision::fp32;
    case PrecisionChoice::bf16:
      return Precision::bf16;
    case PrecisionChoice::pure_bf16_weights:
      return Precision::pure_bf16_weights;
    case PrecisionChoice::pure_bf16_gradients:
      return Precision::pure_bf16_gradients;
    case PrecisionChoice::pure_bf16_forward:
      return Precision::pure_bf16_forward;
    case PrecisionChoice::automatic:
      break;
  }
  throw Error("a precision that is not resolved");
}

std::unique_ptr<Ops> make_device(const RunConfig& run, int local_rank) {
  const RunConfig resolved = resolve_device(run);
  const bool cuda = resolved.device == DeviceChoice::cuda;
  return make_ops(cuda ? Device::cuda : Device::cpu, precision_of(resolved),
                  static_cast<int>(run.threads), local_rank);
}

}  // namespace normlab
