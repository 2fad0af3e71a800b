// Shuffles, votes and barriers. Two warps or more, so that one taking part in the other's would
// show.
#include "tests/conformance/dump.h"

namespace normlab::conformance {
namespace {

constexpr int kThreads = 64;

template <typename T>
__global__ void __launch_bounds__(kThreads) shuffle_xor_kernel(T* y, const T* x, int mask) {
  y[threadIdx.x] = shuffle_xor(x[threadIdx.x], mask);
}

template <typename T>
__global__ void __launch_bounds__(kThreads) shuffle_kernel(T* y, const T* x, int lane) {
  y[threadIdx.x] = shuffle(x[threadIdx.x], lane);
}

__global__ void __launch_bounds__(kThreads) warp_any_kernel(uint32_t* y, const uint32_t* x) {
  y[threadIdx.x] = warp_any(x[threadIdx.x] != 0) ? 1 : 0;
}

__global__ void __launch_bounds__(kThreads) warp_ballot_kernel(uint32_t* y, const uint32_t* x) {
  y[threadIdx.x] = warp_ballot((x[threadIdx.x] & 1) != 0);
}

template <typename T>
void dump_shuffles(const Device& device, std::vector<Line>& lines, const std::string& type,
                   const std::vector<T>& values) {
  const DeviceArray<T> x(device, values);
  const LaunchShape shape{1, kThreads, 0, device.stream()};
  for (const int mask : {1, 2, 4, 8, 16, 31, 21}) {
    const DeviceArray<T> y(device, std::vector<T>(kThreads));
    launch("shuffle_xor", shuffle_xor_kernel<T>, shape, y.data(), x.data(), mask);
    lines.push_back(
        {"shuffle_xor", type + ",mask=" + std::to_string(mask), Agreement::bits, 0, y.words()});
  }
  for (const int lane : {0, 13, 31}) {
    const DeviceArray<T> y(device, std::vector<T>(kThreads));
    launch("shuffle", shuffle_kernel<T>, shape, y.data(), x.data(), lane);
    lines.push_back(
        {"shuffle", type + ",lane=" + std::to_string(lane), Agreement::bits, 0, y.words()});
  }
}

void dump_votes(const Device& device, std::vector<Line>& lines) {
  const LaunchShape shape{1, kThreads, 0, device.stream()};
  std::vector<uint32_t> one(kThreads), second_warp(kThreads);
  one[13] = 1;
  second_warp[63] = 1;
  const std::vector<std::pair<std::string, std::vector<uint32_t>>> votes = {
      {"none", std::vector<uint32_t>(kThreads)},
      {"thread_13", one},
      {"thread_63", second_warp},
      {"all", std::vector<uint32_t>(kThreads, 1)}};
  for (const auto& [name, values] : votes) {
    const DeviceArray<uint32_t> x(device, values), y(device, std::vector<uint32_t>(kThreads));
    launch("warp_any", warp_any_kernel, shape, y.data(), x.data());
    lines.push_back({"warp_any", name, Agreement::bits, 0, y.words()});
  }
  const DeviceArray<uint32_t> x(device, random_words(kThreads, 2)),
      y(device, std::vector<uint32_t>(kThreads));
  launch("warp_ballot", warp_ballot_kernel, shape, y.data(), x.data());
  lines.push_back({"warp_ballot", "random", Agreement::bits, 0, y.words()});
}

// Two pairs of warps, each pair with a barrier of its own, exchange their numbers; then the block.
constexpr int kFour = 128;
__global__ void __launch_bounds__(kFour) named_barrier_kernel(uint32_t* y, const uint32_t* x) {
  SharedMemory memory;
  const SharedArray<uint32_t> shared = memory.take<uint32_t>(kFour);
  const int thread = static_cast<int>(threadIdx.x), pair = thread / 64;
  shared[thread] = x[thread];
  named_barrier(1 + pair, 64);
  const uint32_t partner = shared[thread ^ 63];
  __syncthreads();
  shared[thread] = partner;
  __syncthreads();
  y[thread] = shared[127 - thread];
}

}  // namespace

void dump_warps(const Device& device, std::vector<Line>& lines) {
  dump_shuffles<uint32_t>(device, lines, "uint32", random_words(kThreads, 1));
  dump_shuffles<float>(device, lines, "float", random_floats(kThreads, 1, -100, 100));
  dump_votes(device, lines);
}

void dump_barriers(const Device& device, std::vector<Line>& lines) {
  const DeviceArray<uint32_t> x(device, random_words(kFour, 3)),
      y(device, std::vector<uint32_t>(kFour));
  launch("named_barrier", named_barrier_kernel,
         {1, kFour, SharedMemory::shared_array_bytes<uint32_t>(kFour), device.stream()}, y.data(),
         x.data());
  lines.push_back({"named_barrier", "two_pairs", Agreement::bits, 0, y.words()});
}

}  // namespace normlab::conformance
