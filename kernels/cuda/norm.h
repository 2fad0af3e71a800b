// What both directions of the norm kernels share.
#pragma once

#include "kernels/cuda/reduce.h"
#include "kernels/cuda/vector.h"
#include "kernels/ops.h"

namespace normlab {

template <typename T>
struct NormParameters {
  const T* gain;
  const T* bias;      // or null
  const float* site;  // {gate, 1/σ}, or null: live
  float epsilon;
  float scale;
  bool centred;  // layernorm
};

template <typename T>
NormParameters<T> norm_parameters_of(const Norm& norm) {
  return {norm.gain.as<T>(),
          norm.bias ? norm.bias.as<T>() : nullptr,
          norm.site ? norm.site.as<float>() : nullptr,
          static_cast<float>(norm.epsilon),
          static_cast<float>(norm.scale),
          norm.kind == NormKind::layernorm};
}

// 1/std as the output uses it: live · the row's own + given, where given = (1 − gate)/σ.
struct NormGate {
  float live = 1;
  float given = 0;

  __device__ __forceinline__ explicit NormGate(const float* site) {
    if (site == nullptr) return;
    live = site[0];
    given = live == 1.0f ? 0.0f : (1 - live) * site[1];
  }
  __device__ __forceinline__ float operator()(float inverse_std) const {
    return live * inverse_std + given;
  }
};

}  // namespace normlab
