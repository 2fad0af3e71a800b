// norm_plan: where the norms of a model stand. The whole of the placement study, as data.
#pragma once

#include <optional>
#include <vector>

#include "models/norm_site.h"

namespace normlab {

// A norm that a joint wants: where its parameters belong, and constant factors of what goes in and
// of what comes out.
struct PlannedNorm {
  NormRole role = NormRole::attention;
  int64_t layer = 0;
  double scale = 1;
  double input_scale = 1;
};

// What stands between two sublayers, all norms optional:
//   x ← after(skip_scale · x + branch_scale · inside(branch)), input of the next = before(x).
struct PlannedJoint {
  std::optional<PlannedNorm> inside;
  std::optional<PlannedNorm> after;
  std::optional<PlannedNorm> before;
  double skip_scale = 1;
  double branch_scale = 1;
};

// 2·layers + 1 joints: embed → joint 0 → attention 0 → joint 1 → MLP 0 → joint 2 → … → head.
// Pure: depends on its arguments alone.
std::vector<PlannedJoint> norm_plan(const NormConfig& config, int64_t layers);

// How a layer is built, where layers differ.
enum class Block { pre, post, sandwich, none };
Block block_of(const NormConfig& config, int64_t layer);

}  // namespace normlab
