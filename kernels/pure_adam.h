// torch's Adam on bf16 numbers (torch 2.15, torch/optim/adam.py, on a CPU: the same bits), one
// operation after the other, each rounded; on every device.
//   w ← w·(1 − lr·decay);  m ← lerp(m, g, 1 − β₁);  v ← v·β₂;  v ← v + (1 − β₂)·g·g
//   w ← w − lr/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
// With β₂ = 0.999 the third changes no normal v: it rounds back. The gradient is rounded first, and
// where it is clipped once more.
#pragma once

#include <cmath>

#include "kernels/bfloat16.h"
#include "kernels/ops.h"

namespace normlab {

// The scalars, made in double and taken as floats.
struct PureAdam {
  float gradient_scale, kept, first_weight, beta2, second_weight, root, epsilon, step_size;
  float coupled_decay;
  bool clips;

  // What changes for an element; all of it bf16 numbers, the gradient but for this.
  constexpr void operator()(float& w, float& m, float& v, float g) const {
    g = of_gradient(g, w);
    m = first_moment(m, g);
    v = rounded(std::fma(second_weight * g, g, rounded(v * beta2)));
    const float denominator = rounded(rounded(rounded(std::sqrt(v)) / root) + epsilon);
    w = rounded(rounded(w * kept) + step_size * m / denominator);
  }

 private:
  constexpr float of_gradient(float g, float w) const {
    g = rounded(g);
    if (clips) g = rounded(g * gradient_scale);
    return coupled_decay > 0 ? rounded(std::fma(coupled_decay, w, g)) : g;
  }
  // lerp(m, g, weight): of its two ways the one with the smaller factor.
  constexpr float first_moment(float m, float g) const {
    return rounded(first_weight < 0.5F ? std::fma(first_weight, g - m, m)
                                       : std::fma(first_weight - 1, g - m, g));
  }
};

constexpr PureAdam pure_adam(const StepState& state, const AdamW& settings) {
  const bool coupled = settings.kind == WeightDecay::coupled;
  return {
      .gradient_scale = static_cast<float>(state.clip_scale),
      .kept = coupled ? 1.0F : static_cast<float>(1 - state.learning_rate * settings.weight_decay),
      .first_weight = static_cast<float>(1 - settings.beta1),
      .beta2 = static_cast<float>(settings.beta2),
      .second_weight = static_cast<float>(1 - settings.beta2),
      .root = static_cast<float>(std::sqrt(state.second_moment_correction)),
      .epsilon = static_cast<float>(settings.epsilon),
      .step_size = static_cast<float>(-state.learning_rate / state.first_moment_correction),
      // The one scalar that torch rounds: add's alpha is of the tensors' type.
      .coupled_decay = coupled ? rounded(static_cast<float>(settings.weight_decay)) : 0.0F,
      .clips = state.clip_scale != 1};
}

}  // namespace normlab
