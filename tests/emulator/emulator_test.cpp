// Which threads run, in which order, and what an architecture allows.
#include <array>
#include <cstring>

#include "tests/emulator/report.h"

namespace normlab {
namespace {

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

// Each thread of a grid says who it is: a place of its own, in the order that CUDA gives them.
__global__ void say_who(unsigned* out) {
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  out[block * threads + thread] += 1 + block * threads + thread;
}

// The last thread to run wins. (ThreadSanitizer is to let this and the next pass.)
[[gnu::no_sanitize("thread")]] __global__ void depends_on_order(float* out) {
  *out = static_cast<float>(threadIdx.x);
}

// A warp that lags behind the other reads what that one has written too early: only where somebody
// runs ahead.
[[gnu::no_sanitize("thread")]] __global__ void depends_on_who_runs_ahead(float* out,
                                                                         float* values) {
  values[threadIdx.x] = static_cast<float>(threadIdx.x);
  __syncthreads();
  shuffle_xor(0.0f, 1);
  out[threadIdx.x] = values[63 - threadIdx.x];
  shuffle_xor(0.0f, 2);
  values[threadIdx.x] = -1;
}

TEST_CASE("emulator: runs every thread of every block, with its indices") {
  std::vector<unsigned> out(size_t{3} * 2 * 2 * 5 * 4 * 3);
  launch("say_who", say_who, {{3, 2, 2}, {5, 4, 3}}, out.data());
  for (unsigned i = 0; i < out.size(); ++i) CHECK(out[i] == i + 1);
}

TEST_CASE("emulator: blocks of other sizes may follow each other") {
  std::vector<float> in(192), out(3);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i);
  for (const unsigned threads : {1024u, 7u, 300u}) {
    std::vector<unsigned> who(threads);
    launch("say_who", say_who, {1, threads}, who.data());
    for (unsigned i = 0; i < threads; ++i) CHECK(who[i] == i + 1);
    launch("block_sum", block_sum, {3, 64, kSharedBytes}, out.data(), in.data());
    CHECK(out == std::vector<float>{2016, 6112, 10208});
  }
}

TEST_CASE("emulator: what depends on the order of threads shows, and only that") {
  std::vector<float> in(64);
  for (size_t i = 0; i < in.size(); ++i) in[i] = 1.0f / static_cast<float>(i + 1);
  const auto last = in_every_order([] {
    float out = -1;
    launch("depends_on_order", depends_on_order, kOneBlock, &out);
    return out;
  });
  CHECK(last[0] == 63);
  CHECK(last[1] == 0);
  CHECK(last[2] != 63);
  const auto sums = in_every_order([&] {
    float out = -1;
    launch("block_sum", block_sum, kOneBlock, &out, in.data());
    return out;
  });
  for (const float sum : sums) CHECK(std::memcmp(&sum, &sums[0], sizeof(float)) == 0);
}

TEST_CASE("emulator: a missing barrier after reading shows where threads run ahead") {
  const auto results = in_every_order([] {
    std::vector<float> out(64), values(64);
    launch("depends_on_who_runs_ahead", depends_on_who_runs_ahead, kOneBlock, out.data(),
           values.data());
    return out;
  });
  std::vector<float> right;
  for (int i = 63; i >= 0; --i) right.push_back(static_cast<float>(i));
  CHECK(results[0] == right);
  CHECK(results[1] == right);
  CHECK(results[3] != right);
}

TEST_CASE("emulator: the shuffled order is the seed's") {
  const auto last_of = [](uint64_t seed) {
    std::vector<float> last;
    emulator::configure({emulator::Order::shuffled, seed});
    for (int i = 0; i < 8; ++i) {
      float out = -1;
      launch("depends_on_order", depends_on_order, {2, 64}, &out);
      last.push_back(out);
    }
    emulator::configure({});
    return last;
  };
  CHECK(last_of(1) == last_of(1));
  CHECK(last_of(1) != last_of(2));
}

// What a launch on an architecture is refused for, or "".
std::string launched_on(int architecture, const LaunchShape& shape) {
  emulator::configure({emulator::Order::forward, 0, architecture});
  const std::string text = report([&] {
    launch(
        "k", +[] {}, shape);
  });
  emulator::configure({});
  return text;
}

TEST_CASE("emulator: refuses a launch beyond what any architecture has") {
  contains(launched_on(80, {1, 1025}), "kernel k: cannot be launched on sm_80");
  contains(launched_on(80, {1, 1025}), "1025 threads in a block, at most 1024");
  contains(launched_on(80, {1, {32, 33}}), "1056 threads in a block, at most 1024");
  contains(launched_on(80, {1, {1, 1, 65}}), "65 threads in z, at most 64");
  contains(launched_on(80, {{0x80000000u}, 1}), "a grid of 2147483648 in x, at most 2147483647");
  contains(launched_on(80, {{1, 65536}, 1}), "a grid of 65536 in y or z, at most 65535");
  contains(launched_on(80, {{1, 1, 65536}, 1}), "a grid of 65536 in y or z, at most 65535");
  contains(launched_on(80, {0, 1}), "an empty grid or block");
  contains(launched_on(80, {1, {32, 0}}), "an empty grid or block");
  CHECK(launched_on(80, {1, {4, 4, 64}}).empty());
  CHECK(launched_on(80, {1, {1, 1024}}).empty());
}

TEST_CASE("emulator: refuses more shared memory than the architecture has") {
  struct Row {
    int architecture;
    int64_t bytes;
  };
  constexpr int64_t kKib = 1024;
  for (const auto& [architecture, bytes] :
       std::array<Row, 3>{{{80, 163 * kKib}, {86, 99 * kKib}, {90, 227 * kKib}}}) {
    CHECK(launched_on(architecture, {1, 32, bytes}).empty());
    contains(launched_on(architecture, {1, 32, bytes + 1}),
             "cannot be launched on sm_" + std::to_string(architecture) + " (" +
                 std::to_string(bytes + 1) + " bytes of shared memory, at most " +
                 std::to_string(bytes) + ")");
  }
}

TEST_CASE("emulator: knows no architecture of which it has no limits") {
  contains(report([] {
             emulator::configure({emulator::Order::forward, 0, 70});
           }),
           "no such architecture: 70");
  CHECK(emulator::settings().architecture == 80);
}

__global__ void launches_another(float* out) {
  launch("depends_on_order", depends_on_order, kOneBlock, out);
}

TEST_CASE("emulator: a kernel launches none") {
  float out = 0;
  contains(report([&] { launch("launches_another", launches_another, kOneBlock, &out); }),
           "kernel launches_another, block (0,0,0), thread 0: throws \"kernel depends_on_order: "
           "launched from a kernel\"");
}

TEST_CASE("emulator: a device function outside a kernel says so") {
  contains(report([] { __syncthreads(); }), "a device function was called outside a kernel");
}

__global__ void fails_in_the_third_block(float* out) {
  if (blockIdx.x == 2 && threadIdx.x == 9) emulator::fail("is wrong on purpose");
  if (blockIdx.x == 3) out[0] = 1;
  __syncthreads();
}

TEST_CASE("emulator: is as good as new after a failure") {
  std::vector<float> out(64), in(64, 1);
  for (int i = 0; i < 3; ++i) {
    CHECK(report([&] {
            launch("fails_in_the_third_block", fails_in_the_third_block, {4, 64}, out.data());
          }) == "kernel fails_in_the_third_block, block (2,0,0), thread 9: is wrong on purpose");
    CHECK(out[0] == 0);
    launch("block_sum", block_sum, kOneBlock, out.data(), in.data());
    CHECK(out[0] == 64);
    out[0] = 0;
  }
}

// What the threads hold when another fails is given back.
__global__ void holds_memory(float* out) {
  const std::vector<float> held(1000, 1.0f);
  if (threadIdx.x == 63) emulator::fail("is wrong on purpose");
  __syncthreads();
  out[threadIdx.x] = held[threadIdx.x];
}

TEST_CASE("emulator: the threads of a failed block end in order") {
  std::vector<float> out(64);
  contains(report([&] { launch("holds_memory", holds_memory, kOneBlock, out.data()); }),
           "thread 63: is wrong on purpose");
}

}  // namespace
}  // namespace normlab
