// The numbers of one optimizer update, from the step's state and the settings; on every device.
#pragma once

#include <cmath>

#include "kernels/formula.h"
#include "kernels/ops.h"

namespace normlab {

// In double, then rounded once.
template <typename Scalar>
constexpr AdamStep<Scalar> adam_step(const StepState& state, const AdamW& settings) {
  const bool decoupled = settings.kind == WeightDecay::decoupled;
  return {.gradient_scale = static_cast<Scalar>(state.clip_scale),
          .beta2 = static_cast<Scalar>(settings.beta2),
          .first_weight = static_cast<Scalar>(1 - settings.beta1),
          .second_weight = static_cast<Scalar>(1 - settings.beta2),
          .step_size = static_cast<Scalar>(state.learning_rate / state.first_moment_correction),
          .inverse_root = static_cast<Scalar>(1 / std::sqrt(state.second_moment_correction)),
          .epsilon = static_cast<Scalar>(settings.epsilon),
          .decoupled_decay =
              static_cast<Scalar>(decoupled ? state.learning_rate * settings.weight_decay : 0.0),
          .coupled_decay = static_cast<Scalar>(decoupled ? 0.0 : settings.weight_decay)};
}

}  // namespace normlab
