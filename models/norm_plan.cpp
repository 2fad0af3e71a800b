#include "models/norm_plan.h"

namespace normlab {

std::vector<PlannedJoint> norm_plan(const NormConfig& config, int64_t layers) {
  std::vector<PlannedJoint> joints(static_cast<size_t>(2 * layers + 1));
  for (int64_t layer = 0; layer < layers; ++layer) {
    const auto attention = static_cast<size_t>(2 * layer);
    const PlannedNorm of_mlp{NormRole::mlp, layer};
    switch (config.placement) {
      case NormPlacement::pre:
        joints[attention].before = PlannedNorm{NormRole::attention_qk, layer};
        joints[attention + 1].before = of_mlp;
        break;
      case NormPlacement::post:
        joints[attention + 1].after = PlannedNorm{NormRole::attention, layer};
        joints[attention + 2].after = of_mlp;
        break;
      case NormPlacement::none:
        break;
    }
  }
  if (config.placement != NormPlacement::none) {
    joints.back().before = PlannedNorm{NormRole::final, -1};
  }
  return joints;
}

}  // namespace normlab
