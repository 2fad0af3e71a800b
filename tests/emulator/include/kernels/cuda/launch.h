// The emulator's launch: shadows kernels/cuda/launch.h. A kernel with a stream is work of that
// stream (tests/emulator/library); without one it runs at once, on memory of the host: so do the
// emulator's own tests.
#pragma once

#include <cuda_runtime.h>

#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/error.h"

namespace normlab {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  int64_t shared_bytes = 0;
  cudaStream_t stream = nullptr;
};

namespace emulator {

// The pointers that a kernel is given: an argument, or the `data` of one (Rows, Scratch).
template <typename Parameter>
void add_pointers(std::vector<const void*>& pointers, const Parameter& parameter) {
  if constexpr (std::is_pointer_v<Parameter>) {
    pointers.push_back(parameter);
  } else if constexpr (requires { static_cast<const volatile void*>(parameter.data); }) {
    pointers.push_back(parameter.data);
  } else if constexpr (requires { static_cast<const volatile void*>(parameter.data()); }) {
    pointers.push_back(parameter.data());
  }
}

}  // namespace emulator

// Enqueues kernel(arguments…) on the stream. Throws emulator::Failure where the launch is beyond
// what the architecture has, or a pointer is not the device's.
template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), const LaunchShape& shape,
            Arguments&&... arguments) {
  // Copied now: what a kernel is given is its own.
  std::tuple<Parameters...> own(static_cast<Parameters>(std::forward<Arguments>(arguments))...);
  std::vector<const void*> pointers;
  std::apply([&](const auto&... parameter) { (emulator::add_pointers(pointers, parameter), ...); },
             own);
  const auto run = [=] {
    emulator::run(name, shape.grid, shape.block, shape.shared_bytes,
                  [&] { std::apply(kernel, own); });
  };
  if (shape.stream == nullptr) {
    run();
  } else {
    shape.stream->enqueue(name, pointers, run);
  }
}

}  // namespace normlab
