// What both directions of the norm kernels share.
#pragma once

#include "kernels/cuda/reduce.h"
#include "kernels/cuda/vector.h"
#include "kernels/ops.h"

namespace normlab {

// Which rows belong to special tokens.
struct SpecialRows {
  const int32_t* tokens;  // or null: none
  uint32_t stride;
  uint32_t per_sequence;
  int32_t id;
  bool first;

  __device__ __forceinline__ bool operator()(int64_t row) const {
    if (tokens == nullptr) return false;
    // Fewer than 2^31 rows: a division of 64 bits would take registers that the kernels lack.
    const auto place = static_cast<uint32_t>(row);
    const uint32_t sequence = place / per_sequence;
    const uint32_t token = place - sequence * per_sequence;
    return (first && token == 0) || tokens[int64_t{sequence} * stride + token] == id;
  }
};

inline SpecialRows special_rows_of(const SpecialTokens& special) {
  const ConstTensor& tokens = special.tokens;
  if (!tokens) return {nullptr, 0, 1, -1, false};
  return {tokens.as<int32_t>(), static_cast<uint32_t>(tokens.row_stride),
          static_cast<uint32_t>(tokens.columns()), special.id, special.first};
}

template <typename T>
struct NormParameters {
  const T* gain;
  const T* bias;      // or null
  const float* site;  // {gate, 1/σ, 1/σ of special tokens}, or null: live
  SpecialRows is_special;
  float epsilon;
  float scale;
  bool centred;  // layernorm
};

template <typename T>
NormParameters<T> norm_parameters_of(const Norm& norm) {
  return {norm.gain.as<T>(),
          norm.bias ? norm.bias.as<T>() : nullptr,
          norm.site ? norm.site.as<float>() : nullptr,
          special_rows_of(norm.special),
          static_cast<float>(norm.epsilon),
          static_cast<float>(norm.scale),
          norm.kind == NormKind::layernorm};
}

// 1/std as the output uses it: live · the row's own + given, where given = (1 − gate)/σ.
struct NormGate {
  float live = 1;
  float given = 0;
  float given_special = 0;
  const SpecialRows& is_special;

  template <typename T>
  __device__ __forceinline__ explicit NormGate(const NormParameters<T>& norm)
      : is_special(norm.is_special) {
    if (norm.site == nullptr) return;
    live = norm.site[0];
    if (live == 1.0f) return;
    given = (1 - live) * norm.site[1];
    if (is_special.tokens != nullptr) given_special = (1 - live) * norm.site[2];
  }
  __device__ __forceinline__ float operator()(float inverse_std, int64_t row) const {
    return live * inverse_std + (is_special(row) ? given_special : given);
  }
};

}  // namespace normlab
