// The only place where a kernel is launched. tests/emulator/include shadows this file.
#pragma once

#include <string>
#include <utility>

#include "kernels/cuda/device.h"
#include "kernels/error.h"

namespace normlab {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  int64_t shared_bytes = 0;
  cudaStream_t stream = nullptr;
};

// Enqueues kernel(arguments…) on the stream; launches in the .cu file that defines the kernel.
// Throws Error, naming the kernel, where the launch is beyond what the device has.
template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), const LaunchShape& shape,
            Arguments&&... arguments) {
  const auto bytes = static_cast<size_t>(shape.shared_bytes);
  constexpr size_t kWithoutOptIn = 48 * 1024;
  if (bytes > kWithoutOptIn) {
    cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                         cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  }
  kernel<<<shape.grid, shape.block, bytes, shape.stream>>>(
      static_cast<Parameters>(std::forward<Arguments>(arguments))...);
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) {
    throw Error("kernel " + std::string(name) + ": cannot be launched (" +
                cudaGetErrorString(status) + ")");
  }
}

}  // namespace normlab
