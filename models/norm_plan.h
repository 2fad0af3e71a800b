// norm_plan: where the norms of a model stand. The whole of the placement study, as data.
#pragma once

#include <optional>
#include <vector>

#include "models/norm_site.h"

namespace normlab {

// A norm that a joint wants: where its parameters belong, and its constant factor.
struct PlannedNorm {
  NormRole role = NormRole::attention;
  int64_t layer = 0;
  double scale = 1;
};

// What stands between two sublayers: x ← after(x + branch), input of the next = before(x).
struct PlannedJoint {
  std::optional<PlannedNorm> after;
  std::optional<PlannedNorm> before;
};

// 2·layers + 1 joints: embed → joint 0 → attention 0 → joint 1 → MLP 0 → joint 2 → … → head.
// Pure: depends on its arguments alone.
std::vector<PlannedJoint> norm_plan(const NormConfig& config, int64_t layers);

}  // namespace normlab
