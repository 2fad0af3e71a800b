#include "engine/stored_numbers.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "engine/safetensors_header.h"
#include "kernels/bfloat16.h"
#include "kernels/error.h"

namespace normlab {
namespace {

float float_of_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 0x1f;
  const uint32_t mantissa = half & 0x3ff;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000 | mantissa << 13);
  if (exponent == 0) {  // zero and subnormals: mantissa · 2^−24, exact in float
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t half_of_float(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  constexpr uint32_t kInfinity = 0x7c00;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);  // NaN
  // From 65520 on, halfway to what would be the next half, rounding ends at infinity.
  if (magnitude >= std::bit_cast<uint32_t>(65520.0f)) {
    return static_cast<uint16_t>(sign | kInfinity);
  }
  if (magnitude < std::bit_cast<uint32_t>(0x1p-14f)) {
    // Subnormal: the unit is 2^−24, and adding 2^23 units rounds float's own last place to it.
    const float units = std::bit_cast<float>(magnitude) * 0x1p24f + 0x1p23f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(units) & 0x7fffff));
  }
  // Drops 13 bits of the mantissa, to the nearest, ties to even; a carry goes into the exponent.
  const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | ((rounded >> 13) - (112 << 10)));
}

// Files keep no alignment: numbers are copied in and out one by one.
template <typename Stored, typename Convert>
void read_each(std::span<float> to, const std::byte* from, Convert float_of) {
  for (size_t i = 0; i < to.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, from + i * sizeof(Stored), sizeof(Stored));
    to[i] = float_of(stored);
  }
}

template <typename Stored, typename Convert>
void write_each(std::byte* to, std::span<const float> from, Convert stored_of) {
  for (size_t i = 0; i < from.size(); ++i) {
    const Stored stored = stored_of(from[i]);
    std::memcpy(to + i * sizeof(Stored), &stored, sizeof(Stored));
  }
}

}  // namespace

bool holds_floats(StoredType type) {
  switch (type) {
    case StoredType::f32:
    case StoredType::f64:
    case StoredType::bf16:
    case StoredType::f16:
      return true;
    case StoredType::i64:
    case StoredType::i32:
    case StoredType::other:
      return false;
  }
  return false;
}

void read_numbers(std::span<float> to, std::span<const std::byte> from, StoredType type) {
  check(holds_floats(type) && from.size() == to.size() * static_cast<size_t>(size_of(type)),
        "as many stored numbers as are read");
  switch (type) {
    case StoredType::f32:
      if (!to.empty()) std::memcpy(to.data(), from.data(), from.size());
      return;
    case StoredType::f64:
      read_each<double>(to, from.data(), [](double x) { return static_cast<float>(x); });
      return;
    case StoredType::bf16:
      read_each<BFloat16>(to, from.data(), to_float);
      return;
    case StoredType::f16:
      read_each<uint16_t>(to, from.data(), float_of_half);
      return;
    case StoredType::i64:
    case StoredType::i32:
    case StoredType::other:
      return;
  }
}

void write_numbers(std::span<std::byte> to, std::span<const float> from, StoredType type) {
  check(holds_floats(type) && to.size() == from.size() * static_cast<size_t>(size_of(type)),
        "room for as many stored numbers as are written");
  switch (type) {
    case StoredType::f32:
      if (!from.empty()) std::memcpy(to.data(), from.data(), to.size());
      return;
    case StoredType::f64:
      write_each<double>(to.data(), from, [](float x) { return static_cast<double>(x); });
      return;
    case StoredType::bf16:
      write_each<BFloat16>(to.data(), from, round_to_bfloat16);
      return;
    case StoredType::f16:
      write_each<uint16_t>(to.data(), from, half_of_float);
      return;
    case StoredType::i64:
    case StoredType::i32:
    case StoredType::other:
      return;
  }
}

}  // namespace normlab
