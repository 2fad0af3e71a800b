// Shared and scratch memory: what may be read, and what is wrong with reading something else.
#include <numeric>

#include "tests/emulator/report.h"

namespace normlab {
namespace {

// --- Shared memory

__global__ void reads_what_nobody_wrote(float* out) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(64);
  if (threadIdx.x != 5) values[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = values[63 - threadIdx.x];
}

TEST_CASE("emulator: names shared memory that is read before it is written") {
  std::vector<float> out(64);
  const std::string text = report(
      [&] { launch("reads_what_nobody_wrote", reads_what_nobody_wrote, kOneBlock, out.data()); });
  contains(text,
           "kernel reads_what_nobody_wrote, block (0,0,0), thread 58: reads byte 20 of shared "
           "memory, which was never written, at ");
  contains(text, "memory_test.cpp:16");
}

// What one block wrote is nothing to the next.
__global__ void first_block_writes(float* out) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(64);
  if (blockIdx.x == 0) values[threadIdx.x] = 1;
  out[threadIdx.x] = values[threadIdx.x];
}

TEST_CASE("emulator: each block's shared memory is new") {
  std::vector<float> out(64);
  for (int i = 0; i < 2; ++i) {
    contains(report([&] {
               launch("first_block_writes", first_block_writes, {2, 64, kSharedBytes}, out.data());
             }),
             "kernel first_block_writes, block (1,0,0), thread 0: reads byte 0");
  }
}

template <typename T>
__global__ void writes_a_part_of(T* out, int written) {
  SharedMemory shared;
  const SharedArray<uint8_t> bytes = shared.take<uint8_t>(sizeof(T));
  for (int i = 0; i < written; ++i) bytes[i] = 1;
  SharedMemory again;
  out[0] = again.take<T>(1)[0];
}

template <typename T>
void check_partly_written() {
  T out{};
  constexpr int kSize = sizeof(T);
  CHECK(report([&] { launch("k", writes_a_part_of<T>, {1, 1, 64}, &out, kSize); }).empty());
  for (int written = 0; written < kSize; ++written) {
    contains(report([&] {
               launch("k", writes_a_part_of<T>, {1, 1, 64}, &out, written);
             }),
             "reads byte " + std::to_string(written) + " of shared memory");
  }
}

struct alignas(16) FourWords {
  uint32_t word[4];
};

TEST_CASE("emulator: an element is written when all of its bytes are") {
  check_partly_written<uint8_t>();
  check_partly_written<BFloat16>();
  check_partly_written<float>();
  check_partly_written<double>();
  check_partly_written<FourWords>();
}

__global__ void exchanges_structs(uint32_t* out) {
  SharedMemory shared;
  const SharedArray<float> room = shared.take<float>(3);
  const SharedArray<FourWords> values = shared.take<FourWords>(32);
  if (threadIdx.x < 3) room[threadIdx.x] = 0;
  const uint32_t first = 4 * threadIdx.x;
  values[threadIdx.x] = FourWords{{first, first + 1, first + 2, first + 3}};
  __syncthreads();
  const FourWords other = values[31 - threadIdx.x];
  for (uint32_t i = 0; i < 4; ++i) out[4 * (31 - threadIdx.x) + i] = other.word[i];
}

TEST_CASE("emulator: shared arrays hold structs of 16 bytes, each array aligned") {
  std::vector<uint32_t> out(128), expected(128);
  std::iota(expected.begin(), expected.end(), 0);
  const int64_t bytes =
      SharedMemory::shared_array_bytes<float>(3) + SharedMemory::shared_array_bytes<FourWords>(32);
  CHECK(bytes == 16 + 512);
  launch("exchanges_structs", exchanges_structs, {1, 32, bytes}, out.data());
  CHECK(out == expected);
  contains(report([&] {
             launch("exchanges_structs", exchanges_structs, {1, 32, bytes - 1}, out.data());
           }),
           "thread 0: takes 528 bytes of shared memory at ");
}

__global__ void computes_in_place(float* out) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(2);
  values[0] = 3;
  values[1] = values[0];
  values[0] += 4;
  values[0] *= values[1];
  values[0] -= 1;
  out[0] = values[0];
}

TEST_CASE("emulator: an element of shared memory is computed with in place") {
  float out = 0;
  launch("computes_in_place", computes_in_place, {1, 1, 64}, &out);
  CHECK(out == 20);
}

// Thread 0 uses element `index` of 32, or of the part from `first` on.
__global__ void uses_element(float* out, int64_t first, int64_t index) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(32);
  shared.take<float>(32)[0] = 0;
  values.from(first)[index] = 1;
  out[0] = values[first + index];
}

TEST_CASE("emulator: names an index beyond an array of shared memory, or before it") {
  float out = 0;
  const auto used = [&](int64_t first, int64_t index) {
    return report([&] { launch("uses_element", uses_element, {1, 1, 512}, &out, first, index); });
  };
  CHECK(used(0, 31).empty());
  CHECK(used(8, 23).empty());
  contains(used(0, 32),
           "kernel uses_element, block (0,0,0), thread 0: uses element 32 of 32 in "
           "shared memory at ");
  contains(used(0, -1), "uses element -1 of 32 in shared memory");
  contains(used(8, 24), "uses element 24 of 24 in shared memory");
  contains(used(8, -1), "uses element -1 of 24 in shared memory");
  contains(used(33, 0), "of 32 in shared memory");
  contains(used(-1, 1), "of 32 in shared memory");
}

// --- Scratch memory

__global__ void writes_scratch(Scratch<float> scratch, int64_t from, int64_t to) {
  for (int64_t i = from + threadIdx.x; i < to; i += blockDim.x) {
    scratch[i] = static_cast<float>(i);
  }
}

__global__ void sums_scratch(float* out, Scratch<float> scratch, int64_t count) {
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += scratch[i];
  out[threadIdx.x] = sum;
}

__global__ void adds_to_scratch(Scratch<float> scratch) { scratch[threadIdx.x] += 1; }

constexpr LaunchShape kOneThread{1, 1};

TEST_CASE("emulator: copies of a scratch know what other kernels wrote through theirs") {
  std::vector<float> memory(200);
  const Scratch<float> scratch(memory.data(), 200);
  CHECK(scratch.size() == 200);
  float out = 0;
  launch("writes_scratch", writes_scratch, kOneBlock, scratch, 0, 150);
  launch("adds_to_scratch", adds_to_scratch, kOneBlock, scratch);
  const Scratch<float> copy = scratch;
  launch("sums_scratch", sums_scratch, kOneThread, &out, copy, 150);
  CHECK(out == 149 * 150 / 2 + 64);
  const std::string text =
      report([&] { launch("sums_scratch", sums_scratch, kOneThread, &out, copy, 151); });
  contains(text,
           "kernel sums_scratch, block (0,0,0), thread 0: reads element 150 of scratch memory, "
           "which no kernel has written, at ");
  contains(text, "memory_test.cpp:");
}

TEST_CASE("emulator: a scratch made anew is not written, whatever lies there") {
  std::vector<float> memory(64, 1.0f);
  float out = 0;
  launch("writes_scratch", writes_scratch, kOneBlock, Scratch<float>(memory.data(), 64), 0, 64);
  const Scratch<float> fresh(memory.data(), 64);
  contains(report([&] { launch("sums_scratch", sums_scratch, kOneThread, &out, fresh, 64); }),
           "reads element 0 of scratch memory");
  contains(report([&] { launch("adds_to_scratch", adds_to_scratch, kOneBlock, fresh); }),
           "kernel adds_to_scratch, block (0,0,0), thread 0: reads element 0 of scratch memory");
}

TEST_CASE("emulator: names an index beyond a scratch, or before it") {
  std::vector<float> memory(80);
  float out = 0;
  const Scratch<float> scratch(memory.data(), 64);
  launch("writes_scratch", writes_scratch, kOneBlock, scratch, 0, 64);
  contains(report([&] { launch("writes_scratch", writes_scratch, kOneBlock, scratch, 0, 65); }),
           "kernel writes_scratch, block (0,0,0), thread 0: uses element 64 of 64 in scratch "
           "memory at ");
  contains(report([&] { launch("writes_scratch", writes_scratch, kOneBlock, scratch, -1, 0); }),
           "uses element -1 of 64 in scratch memory");
  contains(report([&] { launch("sums_scratch", sums_scratch, kOneThread, &out, scratch, 65); }),
           "uses element 64 of 64 in scratch memory");
}

}  // namespace
}  // namespace normlab
