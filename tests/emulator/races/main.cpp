// One kernel by its name, for a build with a sanitizer: what it reports of the wrong ones, and that
// it reports nothing of the right ones, is the test.
#include <cstdio>
#include <string>
#include <vector>

#include "kernels/cuda/launch.h"

namespace normlab {
namespace {

constexpr unsigned kThreads = 64, kBlocks = 5;
constexpr LaunchShape kOneBlock{{1, 1, 1}, {kThreads, 1, 1}, 2 * kThreads * sizeof(float)};
constexpr LaunchShape kManyBlocks{{kBlocks, 1, 1}, {kThreads, 1, 1}, kOneBlock.shared_bytes};

__global__ void ordered(float* out, const float* in) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(kThreads);
  values[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[blockIdx.x * kThreads + threadIdx.x] = values[63 - threadIdx.x];
}

// A neighbour in the same warp: the numbers are right, on the emulator and on most GPUs.
__global__ void race_in_shared_memory(float* out, const float* in) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(kThreads);
  values[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = values[threadIdx.x / 2 * 2];
}

// Two buffers in turn would need no barrier at the loop's end; one does.
__global__ void race_over_a_reused_buffer(float* out, const float* in) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(kThreads);
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

// No block waits for another.
__global__ void race_between_blocks(float* out, const float* in) {
  if (threadIdx.x == 0) out[0] = in[blockIdx.x];
}

// 64 numbers from global to shared memory, as this thread's part of an asynchronous group.
inline void begin_copies(SharedArray<float> target, const float* source) {
  if (threadIdx.x < kThreads / 4) cp_async_16(target, 4 * threadIdx.x, source + 4 * threadIdx.x);
  cp_async_commit();
}

// While one tile is used, the next is on its way to the other buffer: a barrier a tile.
__global__ void ordered_copies(float* out, const float* in) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(2 * kThreads);
  begin_copies(values, in);
  float sum = 0;
  for (int tile = 0; tile < 4; ++tile) {
    cp_async_wait<0>();
    __syncthreads();
    if (tile < 3) begin_copies(values.from((tile + 1) % 2 * kThreads), in);
    sum += values[tile % 2 * kThreads + 63 - threadIdx.x];
  }
  out[blockIdx.x * kThreads + threadIdx.x] = sum / 4;
}

// The wait is for the thread's own copies: those of others have landed after a barrier.
__global__ void race_with_a_copy(float* out, const float* in) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(kThreads);
  begin_copies(values, in);
  cp_async_wait<0>();
  if (threadIdx.x >= 32) out[threadIdx.x] = values[threadIdx.x];
}

// One barrier a tile would do for two buffers.
__global__ void race_over_a_buffer_that_does_not_alternate(float* out, const float* in) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(2 * kThreads);
  float sum = 0;
  for (int tile = 0; tile < 4; ++tile) {
    const SharedArray<float> buffer = values.from(tile / 2 % 2 * kThreads);
    buffer[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    sum += buffer[63 - threadIdx.x];
  }
  out[threadIdx.x] = sum;
}

// The other warp's matrix is written while this one reads it.
__global__ void race_with_ldmatrix(float* out, const float* in) {
  SharedMemory shared;
  const SharedArray<BFloat16> tile = shared.take<BFloat16>(32 * 8);
  for (unsigned i = threadIdx.x; i < 32 * 8; i += kThreads) tile[i] = to_bfloat16(in[0]);
  __syncthreads();
  uint32_t fragment[4] = {};
  if (threadIdx.x < 32) {
    ldmatrix_x4(fragment, tile, 8 * threadIdx.x);
  } else {
    tile[8 * (threadIdx.x - 32)] = to_bfloat16(in[0]);
  }
  out[threadIdx.x] = static_cast<float>(fragment[0]);
}

// Two pairs of warps, each with a barrier of its own, which they pass several times.
__global__ void ordered_by_named_barriers(float* out, const float* in) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(2 * kThreads);
  const int pair = static_cast<int>(threadIdx.y);
  const SharedArray<float> mine = values.from(pair * static_cast<int>(kThreads));
  float sum = 0;
  for (int round = 0; round < 4; ++round) {
    mine[threadIdx.x] = in[threadIdx.x];
    named_barrier(1 + pair, kThreads);
    sum += mine[63 - threadIdx.x];
    named_barrier(1 + pair, kThreads);
  }
  if (pair == 0) out[blockIdx.x * kThreads + threadIdx.x] = sum / 4;
}

// Each warp has a barrier of its own, which orders it with itself.
__global__ void race_beside_a_named_barrier(float* out, const float* in) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(kThreads);
  values[threadIdx.x] = in[threadIdx.x];
  named_barrier(1 + static_cast<int>(threadIdx.x / 32), 32);
  out[threadIdx.x] = values[63 - threadIdx.x];
}

__global__ void out_of_bounds(float* out, const float* in) {
  out[kBlocks * kThreads + threadIdx.x] = in[threadIdx.x];
}

}  // namespace
}  // namespace normlab

int main(int argc, char* argv[]) {
  using namespace normlab;
  const std::string name = argc > 1 ? argv[1] : "";
  std::vector<float> out(kBlocks * kThreads), in(kThreads, 1);
  const auto run = [&](const char* kernel_name, void (*kernel)(float*, const float*),
                       const LaunchShape& shape) {
    if (name != kernel_name) return;
    // Twice: what one launch leaves, the next may use.
    for (int i = 0; i < 2; ++i) launch(kernel_name, kernel, shape, out.data(), in.data());
  };
  constexpr LaunchShape kPairs{{kBlocks, 1, 1}, {kThreads, 2, 1}, 2 * kThreads * sizeof(float)};
  run("ordered", ordered, kManyBlocks);
  run("ordered_copies", ordered_copies, kManyBlocks);
  run("ordered_by_named_barriers", ordered_by_named_barriers, kPairs);
  run("race_in_shared_memory", race_in_shared_memory, kOneBlock);
  run("race_over_a_reused_buffer", race_over_a_reused_buffer, kOneBlock);
  run("race_over_a_buffer_that_does_not_alternate", race_over_a_buffer_that_does_not_alternate,
      kOneBlock);
  run("race_in_global_memory", race_in_global_memory, kOneBlock);
  run("race_between_blocks", race_between_blocks, kManyBlocks);
  run("race_with_a_copy", race_with_a_copy, kOneBlock);
  run("race_with_ldmatrix", race_with_ldmatrix, kOneBlock);
  run("race_beside_a_named_barrier", race_beside_a_named_barrier, kOneBlock);
  run("out_of_bounds", out_of_bounds, kOneBlock);
  std::printf("%s ended with out[0] = %g\n", name.c_str(), static_cast<double>(out[0]));
  return 0;
}
