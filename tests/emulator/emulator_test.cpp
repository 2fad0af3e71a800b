// Each kind of mistake, in a kernel made for it: the emulator must name it, and be silent about the
// same kernel without it.
#include <cstring>
#include <string>
#include <vector>

#include "catch.h"
#include "kernels/cuda/launch.h"

namespace normlab {
namespace {

// The report of a failing launch, or "".
template <typename Run>
std::string report(const Run& run) {
  try {
    run();
  } catch (const emulator::Failure& failure) {
    return failure.what();
  }
  return {};
}

bool contains(const std::string& text, const std::string& part) {
  INFO(text);
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

constexpr LaunchShape kOneBlock{{1, 1, 1}, {64, 1, 1}, 64 * sizeof(float)};

// Sum of a block through shared memory, in a fixed order.
__global__ void block_sum(float* out, const float* in) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(64);
  values[threadIdx.x] = in[blockIdx.x * blockDim.x + threadIdx.x];
  __syncthreads();
  for (unsigned half = 32; half > 0; half /= 2) {
    if (threadIdx.x < half) values[threadIdx.x] += values[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) out[blockIdx.x] = values[0];
}

__global__ void barrier_in_a_branch(float* out) {
  if (threadIdx.x < 40) __syncthreads();
  out[threadIdx.x] = 1;
}

__global__ void barriers_at_two_lines() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void returns_before_a_shuffle(float* out) {
  if (threadIdx.x == 7) return;
  out[threadIdx.x] = shuffle_xor(1.0f, 1);
}

__global__ void reads_what_nobody_wrote(float* out) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(64);
  if (threadIdx.x != 5) values[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = values[63 - threadIdx.x];
}

__global__ void reads_beyond_its_array(float* out) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(32);
  values[threadIdx.x % 32] = 0;
  out[threadIdx.x] = values[threadIdx.x];
}

// The last thread to run wins.
__global__ void depends_on_order(float* out) { *out = static_cast<float>(threadIdx.x); }

__global__ void warp_sum(float* out, const float* in) {
  float value = in[threadIdx.x];
  for (int mask = 16; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  out[threadIdx.x] = value;
}

// What a kernel leaves in one float, in every order of threads.
template <typename Kernel, typename... Arguments>
std::vector<float> in_every_order(Kernel kernel, Arguments... arguments) {
  std::vector<float> results;
  for (const emulator::Order order : {emulator::Order::forward, emulator::Order::backward,
                                      emulator::Order::shuffled, emulator::Order::run_ahead}) {
    emulator::configure({order, 17});
    float out = 0;
    launch("kernel", kernel, kOneBlock, &out, arguments...);
    results.push_back(out);
  }
  emulator::configure({});
  return results;
}

TEST_CASE("emulator: runs every thread of every block, with its indices") {
  std::vector<float> in(192), out(3);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i);
  launch("block_sum", block_sum, {{3, 1, 1}, {64, 1, 1}, 64 * sizeof(float)}, out.data(),
         static_cast<const float*>(in.data()));
  CHECK(out == std::vector<float>{2016, 6112, 10208});
}

TEST_CASE("emulator: a shuffle brings the other lane's value") {
  std::vector<float> in(32), out(32);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i);
  launch("warp_sum", warp_sum, {{1, 1, 1}, {32, 1, 1}}, out.data(),
         static_cast<const float*>(in.data()));
  CHECK(out == std::vector<float>(32, 496));
}

__global__ void any_of_a_warp(float* out, const float* in) {
  out[threadIdx.x] = warp_any(in[threadIdx.x] > 0.5f) ? 1 : 0;
}

TEST_CASE("emulator: a vote is the whole warp's, and no other's") {
  std::vector<float> in(64), out(64);
  in[40] = 1;
  launch("any_of_a_warp", any_of_a_warp, kOneBlock, out.data(),
         static_cast<const float*>(in.data()));
  CHECK(std::vector<float>(out.begin(), out.begin() + 32) == std::vector<float>(32, 0));
  CHECK(std::vector<float>(out.begin() + 32, out.end()) == std::vector<float>(32, 1));
}

TEST_CASE("emulator: names a barrier that some threads do not reach") {
  std::vector<float> out(64);
  const std::string text =
      report([&] { launch("barrier_in_a_branch", barrier_in_a_branch, kOneBlock, out.data()); });
  contains(text, "kernel barrier_in_a_branch, block (0,0,0), thread 0: waits for ever");
  contains(text, "40 threads (first: 0) wait in __syncthreads at");
  contains(text, "24 threads have ended");
}

TEST_CASE("emulator: names threads that meet at two different barriers") {
  const std::string text =
      report([] { launch("barriers_at_two_lines", barriers_at_two_lines, kOneBlock); });
  contains(text, "kernel barriers_at_two_lines, block (0,0,0), thread 32: reaches __syncthreads");
  contains(text, "while thread 0 waits in __syncthreads");
}

TEST_CASE("emulator: names a warp operation that a lane has left") {
  std::vector<float> out(64);
  contains(report([&] {
             launch("returns_before_a_shuffle", returns_before_a_shuffle, kOneBlock, out.data());
           }),
           "31 threads (first: 0) wait in shuffle_xor");
}

TEST_CASE("emulator: names a warp operation in a warp that is not whole") {
  std::vector<float> in(40, 1), out(40);
  contains(report([&] {
             launch("warp_sum", warp_sum, {{1, 1, 1}, {40, 1, 1}}, out.data(),
                    static_cast<const float*>(in.data()));
           }),
           "thread 32: reaches shuffle_xor");
}

TEST_CASE("emulator: names shared memory that is read before it is written") {
  std::vector<float> out(64);
  const std::string text = report(
      [&] { launch("reads_what_nobody_wrote", reads_what_nobody_wrote, kOneBlock, out.data()); });
  contains(text, "thread 58: reads byte 20 of shared memory, which was never written");
  contains(text, "emulator_test.cpp:");
}

TEST_CASE("emulator: names an index beyond an array of shared memory") {
  std::vector<float> out(64);
  contains(report([&] {
             launch("reads_beyond_its_array", reads_beyond_its_array, kOneBlock, out.data());
           }),
           "thread 32: uses element 32 of 32 in shared memory");
}

TEST_CASE("emulator: what depends on the order of threads shows, and only that") {
  const std::vector<float> wrong = in_every_order(depends_on_order);
  CHECK(wrong[0] == 63);
  CHECK(wrong[1] == 0);
  std::vector<float> in(64);
  for (size_t i = 0; i < in.size(); ++i) in[i] = 1.0f / static_cast<float>(i + 1);
  const std::vector<float> right = in_every_order(block_sum, static_cast<const float*>(in.data()));
  for (const float sum : right) CHECK(std::memcmp(&sum, &right[0], sizeof(float)) == 0);
}

TEST_CASE("emulator: refuses a launch beyond what the architecture has") {
  const auto launched_on = [](int architecture, LaunchShape shape) {
    emulator::configure({emulator::Order::forward, 0, architecture});
    const std::string text = report([&] {
      launch(
          "k", +[] {}, shape);
    });
    emulator::configure({});
    return text;
  };
  contains(launched_on(80, {{1, 1, 1}, {1025, 1, 1}}), "1025 threads in a block, at most 1024");
  contains(launched_on(80, {{1, 1, 1}, {1, 1, 65}}), "65 threads in z");
  contains(launched_on(80, {{1, 65536, 1}, {1, 1, 1}}), "a grid of 65536 in y or z");
  contains(launched_on(80, {{0, 1, 1}, {1, 1, 1}}), "an empty grid");
  constexpr int64_t kKib = 1024;
  contains(launched_on(86, {{1, 1, 1}, {32, 1, 1}, 100 * kKib}), "sm_86 (102400 bytes of shared");
  CHECK(launched_on(80, {{1, 1, 1}, {32, 1, 1}, 163 * kKib}).empty());
  contains(launched_on(80, {{1, 1, 1}, {32, 1, 1}, 164 * kKib}), "at most 166912");
  CHECK(launched_on(90, {{1, 1, 1}, {32, 1, 1}, 227 * kKib}).empty());
}

TEST_CASE("emulator: is as good as new after a failure") {
  std::vector<float> out(64), in(64, 1);
  CHECK_FALSE(report([&] {
                launch("barrier_in_a_branch", barrier_in_a_branch, kOneBlock, out.data());
              }).empty());
  launch("block_sum", block_sum, kOneBlock, out.data(), static_cast<const float*>(in.data()));
  CHECK(out[0] == 64);
}

}  // namespace
}  // namespace normlab
