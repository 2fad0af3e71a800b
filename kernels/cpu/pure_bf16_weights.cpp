#include "kernels/bfloat16.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/pure_bf16.h"
#include "kernels/pure_adam.h"

namespace normlab {

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
  const PureAdam adam = pure_adam(state_, settings);
  BFloat16* weights = value.as<BFloat16>();
  float* m = first_moment.as<float>();
  float* v = second_moment.as<float>();
  const float* gradients = gradient.as<float>();
  constexpr int64_t kGrain = 1 << 15;
  parallel_ranges(threads_, value.elements(), kGrain, [&](int64_t first, int64_t last, int) {
    for (int64_t i = first; i < last; ++i) {
      float w = to_float(weights[i]);
      adam(w, m[i], v[i], gradients[i]);
      weights[i] = round_to_bfloat16(w);
    }
  });
}

}  // namespace normlab
