// Where a kernel finds the table of rotary positions.
#pragma once

#include <cstdint>

namespace normlab {

struct Rotation {
  const float* table;  // (positions, D/2) cosines, then as many sines
  int64_t sines;       // where they begin
  int64_t tokens;      // of a sequence
  int64_t first_position;
  int half;    // D/2
  float sign;  // 1 forward, −1 backward
};

}  // namespace normlab
