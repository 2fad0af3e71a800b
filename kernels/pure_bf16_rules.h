// What training in bf16 alone (kernels/cpu/pure_bf16.h) decides alike on every device.
#pragma once

#include <cmath>

#include "kernels/bfloat16.h"
#include "kernels/ops.h"

namespace normlab {

// The one norm that the reference has; others round once a verb.
inline bool is_reference_norm(const Norm& norm) {
  return norm.kind == NormKind::rmsnorm && !norm.bias && !norm.site;
}

// Of a loss by one of its terms: the pass's weight in the step's loss, rounded, by the count of its
// targets, which is a bf16 number too.
constexpr float gradient_scale(const StepState& state) {
  if (state.loss_scale == 0) return 0;
  const auto count = static_cast<double>(state.scored_tokens);
  const float weight = rounded(static_cast<float>(state.loss_scale * count));
  return rounded(weight / rounded(static_cast<float>(count)));
}

// The pass's part of the step's loss, rounded; as what add_loss will multiply by the scale again.
constexpr float rounded_loss(double scale, double sum) {
  if (scale == 0) return 0;
  return static_cast<float>(static_cast<double>(rounded(static_cast<float>(scale * sum))) / scale);
}

// cos and sin of positions from `first` on, (positions, D/2) each. The reference makes angles,
// cosines and sines in float.
inline void fill_pure_rotations(float* cosines, float* sines, int64_t first, int64_t positions,
                                int64_t head_size, double base) {
  const int64_t half = head_size / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float power = std::pow(static_cast<float>(base),
                                 static_cast<float>(2 * i) / static_cast<float>(head_size));
    for (int64_t position = 0; position < positions; ++position) {
      const float angle = static_cast<float>(first + position) * (1 / power);
      cosines[position * half + i] = rounded(std::cos(angle));
      sines[position * half + i] = rounded(std::sin(angle));
    }
  }
}

}  // namespace normlab
