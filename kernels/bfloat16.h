// BFloat16: the upper half of a float. Arithmetic is done in float; this is how numbers are stored.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/tensor.h"

namespace normlab {

struct BFloat16 {
  uint16_t bits = 0;
};

template <>
constexpr DType dtype_of<BFloat16>() {
  return DType::bf16;
}

constexpr float to_float(BFloat16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}

// To nearest, ties to even, as cvt.rn.bf16.f32 does; a NaN stays one (PTX ISA: 0x7FFF).
constexpr BFloat16 round_to_bfloat16(float x) {
  if (x != x) return {0x7FFF};
  const auto bits = std::bit_cast<uint32_t>(x);
  return {static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)};
}
// The number that is stored, as a float.
constexpr float rounded(float x) { return to_float(round_to_bfloat16(x)); }

}  // namespace normlab
