// NormSite: one norm in one place of a model.
#pragma once

#include <cstdint>

#include "models/pass.h"

namespace normlab {

// What becomes of a norm's 1/std. Removal is a state of the site, not another code path.
enum class NormMode {
  live,      // computed from each row
  tapering,  // gate/std + (1 − gate)/σ, the gate on its way from 1 to 0
  frozen,    // 1/σ
};

enum class NormRole { attention, mlp, final };

struct NormSite {
  NormRole role = NormRole::attention;
  int64_t layer = 0;  // counts from 0; −1 for the final norm
  int gain = -1;      // indices into the parameter list
  int bias = -1;      // −1: none (rmsnorm)
  double scale = 1;   // a constant factor of the output
  NormMode mode = NormMode::live;
  bool tracks = true;  // whether σ still follows the data
  Tensor state;        // (1,2) {gate, 1/σ} on the device

  // What the verbs of Ops need to know.
  Norm norm(const PassContext& pass) const {
    return {pass.config.norm.kind,
            pass.value(gain),
            pass.value(bias),
            pass.config.norm.epsilon,
            scale,
            mode == NormMode::live ? ConstTensor{} : ConstTensor{state}};
  }
};

}  // namespace normlab
