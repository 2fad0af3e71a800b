#include "engine/device.h"

namespace normlab {

std::unique_ptr<Ops> make_device(const RunConfig& run) {
  const bool cuda = run.device == DeviceChoice::cuda ||
                    (run.device == DeviceChoice::automatic && cuda_available());
  return make_ops(cuda ? Device::cuda : Device::cpu, Precision::fp32,
                  static_cast<int>(run.threads));
}

}  // namespace normlab
