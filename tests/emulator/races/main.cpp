// One kernel by its name, for a build with a sanitizer: what it reports of the wrong ones is the
// test.
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/cuda/launch.h"

namespace normlab {
namespace {

constexpr LaunchShape kOneBlock{{1, 1, 1}, {64, 1, 1}, 64 * sizeof(float)};

__global__ void ordered(float* out, const float* in) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(64);
  values[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = values[63 - threadIdx.x];
}

// A neighbour in the same warp: the numbers are right, on the emulator and on most GPUs.
__global__ void race_in_shared_memory(float* out, const float* in) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(64);
  values[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = values[threadIdx.x / 2 * 2];
}

// Two buffers in turn would need no barrier at the loop's end; one does.
__global__ void race_over_a_reused_buffer(float* out, const float* in) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(64);
  float sum = 0;
  for (int round = 0; round < 3; ++round) {
    values[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    sum += values[63 - threadIdx.x];
  }
  out[threadIdx.x] = sum;
}

__global__ void race_in_global_memory(float* out, const float* in) {
  out[threadIdx.x / 2] = in[threadIdx.x];
}

__global__ void out_of_bounds(float* out, const float* in) {
  out[threadIdx.x + 1] = in[threadIdx.x];
}

}  // namespace
}  // namespace normlab

int main(int argc, char* argv[]) {
  using namespace normlab;
  const std::string name = argc > 1 ? argv[1] : "";
  std::vector<float> out(64), in(64, 1);
  const auto run = [&](const char* kernel_name, void (*kernel)(float*, const float*)) {
    if (name == kernel_name) launch(kernel_name, kernel, kOneBlock, out.data(), in.data());
  };
  run("ordered", ordered);
  run("race_in_shared_memory", race_in_shared_memory);
  run("race_over_a_reused_buffer", race_over_a_reused_buffer);
  run("race_in_global_memory", race_in_global_memory);
  run("out_of_bounds", out_of_bounds);
  std::printf("%s ended with out[0] = %g\n", name.c_str(), static_cast<double>(out[0]));
  return 0;
}
