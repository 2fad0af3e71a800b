// The table of rotary positions (Su et al. 2021), on every device.
#pragma once

#include <cmath>
#include <cstdint>

namespace normlab {

// cos and sin of position · base^(−2i/D), (positions, D/2) each. Angles in double.
template <typename Scalar>
void fill_rotations(Scalar* cosines, Scalar* sines, int64_t positions, int64_t head_size,
                    double base) {
  const int64_t half = head_size / 2;
  for (int64_t position = 0; position < positions; ++position) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(position) *
          std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(head_size));
      cosines[position * half + i] = static_cast<Scalar>(std::cos(angle));
      sines[position * half + i] = static_cast<Scalar>(std::sin(angle));
    }
  }
}

}  // namespace normlab
