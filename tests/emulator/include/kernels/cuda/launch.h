// The emulator's launch: shadows kernels/cuda/launch.h.
#pragma once

#include <utility>

#include "kernels/cuda/device.h"

namespace normlab {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  int64_t shared_bytes = 0;
};

template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), const LaunchShape& shape,
            Arguments&&... arguments) {
  emulator::run(name, shape.grid, shape.block, shape.shared_bytes,
                [&] { kernel(static_cast<Parameters>(arguments)...); });
}

}  // namespace normlab
