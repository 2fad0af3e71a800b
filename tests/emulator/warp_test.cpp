// Shuffles, votes and barriers: against loops, and what is wrong with them.
#include <cstring>

#include "kernels/random.h"
#include "tests/emulator/report.h"

namespace normlab {
namespace {

template <typename T>
std::vector<T> random_numbers(size_t count) {
  std::vector<T> numbers;
  for (uint64_t i = 0; i < count; ++i) numbers.push_back(static_cast<T>(mix(i) >> 20));
  return numbers;
}

// --- Shuffles

template <typename T>
__global__ void shuffles_by_mask(T* out, const T* in, int mask) {
  out[threadIdx.x] = shuffle_xor(in[threadIdx.x], mask);
}

template <typename T>
__global__ void shuffles_from_lane(T* out, const T* in, const int* from) {
  out[threadIdx.x] = shuffle(in[threadIdx.x], from[threadIdx.x]);
}

template <typename T>
void check_shuffles() {
  const std::vector<T> in = random_numbers<T>(96);
  std::vector<T> out(96);
  for (int mask = 0; mask < 32; ++mask) {
    launch("shuffles_by_mask", shuffles_by_mask<T>, {1, 96}, out.data(), in.data(), mask);
    for (size_t i = 0; i < out.size(); ++i) CHECK(out[i] == in[i ^ static_cast<size_t>(mask)]);
  }
  std::vector<int> from;
  for (uint64_t i = 0; i < 96; ++i) from.push_back(static_cast<int>(mix(i) % 32));
  launch("shuffles_from_lane", shuffles_from_lane<T>, {1, 96}, out.data(), in.data(), from.data());
  for (size_t i = 0; i < out.size(); ++i) {
    CHECK(out[i] == in[i / 32 * 32 + static_cast<size_t>(from[i])]);
  }
}

TEST_CASE("emulator: a shuffle brings the other lane's value") {
  check_shuffles<float>();
  check_shuffles<double>();
  check_shuffles<int>();
  check_shuffles<uint32_t>();
  check_shuffles<int64_t>();
}

TEST_CASE("emulator: names a shuffle that asks for a lane which is not there") {
  std::vector<float> in(32), out(32);
  contains(report([&] {
             launch("shuffles_by_mask", shuffles_by_mask<float>, kOneWarp, out.data(), in.data(),
                    32);
           }),
           "kernel shuffles_by_mask, block (0,0,0), thread 0: shuffle_xor at ");
  std::vector<int> from(32);
  from[5] = -1;
  contains(report([&] {
             launch("shuffles_from_lane", shuffles_from_lane<float>, kOneWarp, out.data(),
                    in.data(), from.data());
           }),
           "asks for lane -1 of 32");
}

__global__ void returns_before_a_shuffle(float* out) {
  if (threadIdx.x == 7) return;
  out[threadIdx.x] = shuffle_xor(1.0f, 1);
}

TEST_CASE("emulator: names a warp operation that a lane has left") {
  std::vector<float> out(64);
  const std::string text = report(
      [&] { launch("returns_before_a_shuffle", returns_before_a_shuffle, kOneBlock, out.data()); });
  contains(text, "kernel returns_before_a_shuffle, block (0,0,0), thread 0: waits for ever;");
  contains(text, "31 threads (first: 0) wait in shuffle_xor at ");
  contains(text, "warp_test.cpp:");
  contains(text, "33 threads have ended");
}

TEST_CASE("emulator: names a warp operation in a warp that is not whole") {
  std::vector<float> in(40, 1), out(40);
  contains(report([&] {
             launch("shuffles_by_mask", shuffles_by_mask<float>, {1, 40}, out.data(), in.data(), 1);
           }),
           "thread 32: reaches shuffle_xor");
}

__global__ void two_operations(float* out) {
  if (threadIdx.x % 2 == 0) {
    out[threadIdx.x] = shuffle_xor(1.0f, 2);
  } else {
    out[threadIdx.x] = warp_any(true) ? 1 : 0;
  }
}

__global__ void one_operation_at_two_places(float* out) {
  if (threadIdx.x % 2 == 0) {
    out[threadIdx.x] = shuffle_xor(1.0f, 2);
  } else {
    out[threadIdx.x] = shuffle_xor(2.0f, 2);
  }
}

TEST_CASE("emulator: names lanes that meet in two operations") {
  std::vector<float> out(32);
  contains(report([&] { launch("two_operations", two_operations, kOneWarp, out.data()); }),
           "thread 1: reaches warp_any");
  contains(report([&] {
             launch("one_operation_at_two_places", one_operation_at_two_places, kOneWarp,
                    out.data());
           }),
           "while thread 0 waits in shuffle_xor");
}

// --- Votes

__global__ void votes(uint32_t* out, const uint32_t* in) {
  const bool predicate = in[threadIdx.x] % 2 != 0;
  out[threadIdx.x] = warp_ballot(predicate);
  out[blockDim.x + threadIdx.x] = warp_any(predicate) ? 1 : 0;
}

TEST_CASE("emulator: a vote is the whole warp's, and no other's") {
  std::vector<uint32_t> in = random_numbers<uint32_t>(128), out(256);
  std::fill_n(in.begin() + 32, 32, 0);  // none
  std::fill_n(in.begin() + 64, 32, 1);  // all
  std::fill_n(in.begin() + 96, 32, 0);
  in[127] = 1;  // the last lane alone
  launch("votes", votes, {1, 128}, out.data(), in.data());
  for (size_t warp = 0; warp < 4; ++warp) {
    uint32_t expected = 0;
    for (size_t lane = 0; lane < 32; ++lane) expected |= (in[warp * 32 + lane] % 2) << lane;
    for (size_t i = warp * 32; i < warp * 32 + 32; ++i) {
      CHECK(out[i] == expected);
      CHECK(out[128 + i] == (expected != 0 ? 1u : 0u));
    }
  }
}

// --- Barriers

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

__global__ void barriers_in_one_line() { threadIdx.x < 32 ? __syncthreads() : __syncthreads(); }

TEST_CASE("emulator: names a barrier that some threads do not reach") {
  std::vector<float> out(64);
  const std::string text =
      report([&] { launch("barrier_in_a_branch", barrier_in_a_branch, kOneBlock, out.data()); });
  contains(text, "kernel barrier_in_a_branch, block (0,0,0), thread 0: waits for ever;");
  contains(text, "40 threads (first: 0) wait in __syncthreads at ");
  contains(text, "warp_test.cpp:");
  contains(text, "24 threads have ended");
}

TEST_CASE("emulator: names threads that meet at two different barriers") {
  const std::string text =
      report([] { launch("barriers_at_two_lines", barriers_at_two_lines, kOneBlock); });
  contains(text, "kernel barriers_at_two_lines, block (0,0,0), thread 32: reaches __syncthreads");
  contains(text, "while thread 0 waits in __syncthreads");
  contains(report([] { launch("barriers_in_one_line", barriers_in_one_line, kOneBlock); }),
           "thread 32: reaches __syncthreads");
}

// Pairs of warps hand each other numbers in turns, each pair with a barrier of its own; the first
// pair more often than the second.
__global__ void pairs_of_warps(uint32_t* out, const uint32_t* in) {
  SharedMemory shared;
  const SharedArray<uint32_t> values = shared.take<uint32_t>(128);
  const int thread = static_cast<int>(threadIdx.x), pair = thread / 64;
  uint32_t value = in[thread];
  for (int turn = 0; turn < (pair == 0 ? 5 : 2); ++turn) {
    values[thread] = value;
    named_barrier(1 + 14 * pair, 64);
    value = 3 * value + values[thread ^ 63];
    named_barrier(1 + 14 * pair, 64);
  }
  __syncthreads();
  out[thread] = value;
}

TEST_CASE("emulator: named barriers hold their own threads, in every order") {
  const std::vector<uint32_t> in = random_numbers<uint32_t>(128);
  std::vector<uint32_t> expected = in;
  for (size_t turn = 0; turn < 5; ++turn) {
    const std::vector<uint32_t> before = expected;
    for (size_t i = 0; i < (turn < 2 ? 128 : 64); ++i) expected[i] = 3 * before[i] + before[i ^ 63];
  }
  const auto results = in_every_order([&] {
    std::vector<uint32_t> out(128);
    launch("pairs_of_warps", pairs_of_warps, {1, 128, kSharedBytes}, out.data(), in.data());
    return out;
  });
  for (const auto& result : results) CHECK(result == expected);
}

// One warp makes numbers for the other, at places of their own in the source.
__global__ void maker_and_user(float* out) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(32);
  for (int turn = 0; turn < 3; ++turn) {
    if (threadIdx.x < 32) {
      values[threadIdx.x] = static_cast<float>(turn);
      named_barrier(1, 64);
      named_barrier(2, 64);
    } else {
      named_barrier(1, 64);
      out[32 * turn + static_cast<int>(threadIdx.x) - 32] = values[63 - threadIdx.x];
      named_barrier(2, 64);
    }
  }
}

TEST_CASE("emulator: warps may come to a named barrier from different places") {
  for (const auto& result : in_every_order([] {
         std::vector<float> out(96);
         launch("maker_and_user", maker_and_user, kOneBlock, out.data());
         return out;
       })) {
    for (size_t i = 0; i < result.size(); ++i) CHECK(result[i] == static_cast<float>(i / 32));
  }
}

__global__ void waits_at(const int* id, const int* threads) {
  if (threads[threadIdx.x] != 0) named_barrier(id[threadIdx.x], threads[threadIdx.x]);
}

// 64 threads, of which the first warp waits at one barrier and the second at another.
std::string waiting_at(int id, int threads, int second_id, int second_threads) {
  std::vector<int> ids(64, id), counts(64, threads);
  for (size_t i = 32; i < 64; ++i) {
    ids[i] = second_id;
    counts[i] = second_threads;
  }
  return report([&] { launch("waits_at", waits_at, kOneBlock, ids.data(), counts.data()); });
}

TEST_CASE("emulator: names a named barrier that does not exist, or for no whole warps") {
  CHECK(waiting_at(1, 64, 1, 64).empty());
  CHECK(waiting_at(15, 32, 15, 32).empty());
  contains(waiting_at(0, 64, 0, 64),
           "kernel waits_at, block (0,0,0), thread 0: reaches barrier 0 ");
  contains(waiting_at(16, 64, 16, 64), "(named barriers are 1 to 15)");
  contains(waiting_at(1, 48, 1, 48), "for 48 threads (it takes whole warps of the block)");
  contains(waiting_at(1, 96, 1, 96), "for 96 threads (it takes whole warps of the block)");
  contains(waiting_at(1, -32, 1, -32), "for -32 threads (it takes whole warps of the block)");
}

TEST_CASE("emulator: names warps that wait for different numbers at a named barrier") {
  contains(waiting_at(3, 64, 3, 32), "thread 63: reaches barrier 3 at ");
  contains(waiting_at(3, 64, 3, 32), "for 32 threads, while warp 0 waits there for 64");
}

TEST_CASE("emulator: names a named barrier that some threads do not reach") {
  contains(waiting_at(1, 64, 1, 0),
           "thread 0: waits for ever; 32 threads (first: 0) wait in "
           "named_barrier 1 at ");
  contains(waiting_at(1, 64, 2, 64), "named_barrier 2 at ");
  // Half a warp has left.
  std::vector<int> ids(64, 1), counts(64, 64);
  for (size_t i = 48; i < 64; ++i) counts[i] = 0;
  contains(report([&] { launch("waits_at", waits_at, kOneBlock, ids.data(), counts.data()); }),
           "48 threads (first: 0) wait in named_barrier 1 at ");
  // Half a warp waits at another barrier.
  for (size_t i = 48; i < 64; ++i) {
    ids[i] = 2;
    counts[i] = 64;
  }
  contains(report([&] { launch("waits_at", waits_at, kOneBlock, ids.data(), counts.data()); }),
           "thread 48: reaches named_barrier 2 at ");
}

}  // namespace
}  // namespace normlab
