#include <cmath>

#include "kernels/bfloat16.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/pure_bf16.h"

namespace normlab {
namespace {

// The scalars of torch's Adam, made in double and taken as floats.
struct PureAdam {
  float gradient_scale, kept, first_weight, beta2, second_weight, root, epsilon, step_size;
  float coupled_decay;
  bool clips;

  PureAdam(const StepState& state, const AdamW& settings)
      : gradient_scale(static_cast<float>(state.clip_scale)),
        kept(1),
        first_weight(static_cast<float>(1 - settings.beta1)),
        beta2(static_cast<float>(settings.beta2)),
        second_weight(static_cast<float>(1 - settings.beta2)),
        root(static_cast<float>(std::sqrt(state.second_moment_correction))),
        epsilon(static_cast<float>(settings.epsilon)),
        step_size(static_cast<float>(-state.learning_rate / state.first_moment_correction)),
        coupled_decay(0),
        clips(state.clip_scale != 1) {
    if (settings.kind == WeightDecay::coupled) {
      // The one scalar that torch rounds: add's alpha is of the tensors' type.
      coupled_decay = rounded(static_cast<float>(settings.weight_decay));
    } else {
      kept = static_cast<float>(1 - state.learning_rate * settings.weight_decay);
    }
  }

  float gradient(float g, float w) const {
    g = rounded(g);
    if (clips) g = rounded(g * gradient_scale);
    return coupled_decay > 0 ? rounded(std::fma(coupled_decay, w, g)) : g;
  }
  // lerp(m, g, weight): of its two ways the one with the smaller factor.
  float first_moment(float m, float g) const {
    return rounded(first_weight < 0.5F ? std::fma(first_weight, g - m, m)
                                       : std::fma(first_weight - 1, g - m, g));
  }
  float second_moment(float v, float g) const {
    return rounded(std::fma(second_weight * g, g, rounded(v * beta2)));
  }
  float weight(float w, float m, float v) const {
    const float denominator = rounded(rounded(rounded(std::sqrt(v)) / root) + epsilon);
    return rounded(w + step_size * m / denominator);
  }
};

}  // namespace

Bf16WeightsOps::Bf16WeightsOps(std::unique_ptr<Ops> rounding, int threads)
    : ForwardingOps(*rounding),
      owned_(std::move(rounding)),
      threads_(threads > 0 ? threads : default_threads()) {
  check(ops().working_type() == DType::bf16, "Bf16WeightsOps: an Ops that works in bf16");
}

std::string Bf16WeightsOps::device_name() const { return owned_->device_name() + " alone"; }

void Bf16WeightsOps::set_step_state(const StepState& state) {
  state_ = state;
  ops().set_step_state(state);
}

void Bf16WeightsOps::finish_gradient(ConstTensor partials) {
  ops().finish_gradient(partials);
  const StepResult result = ops().download_step_result();
  state_.finite = result.finite;
  state_.clip_scale = result.clip_scale;
}

void Bf16WeightsOps::adamw(Tensor value, Tensor master, Tensor first_moment, Tensor second_moment,
                           ConstTensor gradient, const AdamW& settings) {
  check(!master, "adamw: no master");
  if (!state_.finite) return;
  const PureAdam adam(state_, settings);
  BFloat16* weights = value.as<BFloat16>();
  float* m = first_moment.as<float>();
  float* v = second_moment.as<float>();
  const float* gradients = gradient.as<float>();
  constexpr int64_t kGrain = 1 << 15;
  parallel_ranges(threads_, value.elements(), kGrain, [&](int64_t first, int64_t last, int) {
    for (int64_t i = first; i < last; ++i) {
      const float w = to_float(weights[i]);
      const float g = adam.gradient(gradients[i], w);
      m[i] = adam.first_moment(m[i], g);
      v[i] = adam.second_moment(v[i], g);
      weights[i] = round_to_bfloat16(adam.weight(rounded(w * adam.kept), m[i], v[i]));
    }
  });
}

}  // namespace normlab
