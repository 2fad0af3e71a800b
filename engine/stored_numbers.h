// Floating-point numbers as files store them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/safetensors.h"

namespace normlab {

// Whether a type is one of f32, f64, bf16 and f16.
bool holds_floats(StoredType type);
// `from` holds to.size() numbers of a type that holds_floats, at any alignment; f64 is rounded.
void read_numbers(std::span<float> to, std::span<const std::byte> from, StoredType type);
// The same back, rounded to the nearest, ties to even; beyond the type's range: infinite.
void write_numbers(std::span<std::byte> to, std::span<const float> from, StoredType type);

}  // namespace normlab
