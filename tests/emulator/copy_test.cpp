// Asynchronous copies: they land when they are waited for, and no sooner.
#include "kernels/random.h"
#include "tests/emulator/report.h"

namespace normlab {
namespace {

// 16-byte aligned, as memory of a device is.
struct alignas(16) Source {
  float value[64];
};

Source counted() {
  Source source;
  for (int i = 0; i < 64; ++i) source.value[i] = static_cast<float>(i + 1);
  return source;
}

// Each of 16 threads copies 4 of the 64 numbers, those before `valid` only.
__global__ void copies(float* out, const Source* source, int valid) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(64);
  const int thread = static_cast<int>(threadIdx.x), first = 4 * thread;
  cp_async_16(values, first, source->value + first, first < valid);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  for (int i = 0; i < 4; ++i) out[63 - first - i] = values[63 - first - i];
}

TEST_CASE("emulator: an asynchronous copy brings 16 bytes, or zeros where it is not valid") {
  const Source source = counted();
  for (const auto& out : in_every_order([&] {
         std::vector<float> out(64, -1);
         launch("copies", copies, {1, 16, kSharedBytes}, out.data(), &source, 40);
         return out;
       })) {
    for (size_t i = 0; i < 64; ++i) CHECK(out[i] == (i < 40 ? static_cast<float>(i + 1) : 0));
  }
}

__global__ void copies_from_nowhere(float* out) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(4);
  cp_async_16<float>(values, 0, nullptr, false);
  cp_async_commit();
  cp_async_wait<0>();
  for (int i = 0; i < 4; ++i) out[i] = values[i];
}

TEST_CASE("emulator: the source of a copy that is not valid is not read") {
  std::vector<float> out(4, -1);
  launch("copies_from_nowhere", copies_from_nowhere, {1, 1, 64}, out.data());
  CHECK(out == std::vector<float>(4, 0));
}

// Four groups, of which the third is empty and the second holds two copies; then a copy in no
// group. After a wait for all but kPending groups, a number of copy `copy` is read.
template <int kPending>
__global__ void reads_after_wait(float* out, const Source* source, int copy) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(64);
  const auto begin = [&](int number) {
    cp_async_16(values, 4 * number, source->value + 4 * number);
  };
  begin(0);
  cp_async_commit();
  begin(1);
  begin(2);
  cp_async_commit();
  cp_async_commit();
  begin(3);
  cp_async_commit();
  begin(4);
  cp_async_wait<kPending>();
  out[0] = values[4 * copy + 3];
  cp_async_commit();
  cp_async_wait<0>();
}

template <int kPending>
void check_landed(int landed) {
  const Source source = counted();
  for (int copy = 0; copy < 5; ++copy) {
    float out = 0;
    const std::string text = report([&] {
      launch("reads_after_wait", reads_after_wait<kPending>, {1, 1, 256}, &out, &source, copy);
    });
    if (copy < landed) {
      CHECK(text.empty());
      CHECK(out == static_cast<float>(4 * copy + 4));
    } else {
      contains(text, "kernel reads_after_wait, block (0,0,0), thread 0: reads byte " +
                         std::to_string(16 * copy + 12) +
                         " of shared memory, to which an asynchronous copy is on its way, at ");
    }
  }
}

TEST_CASE("emulator: a wait lands all but the latest groups, empty ones counted") {
  check_landed<0>(4);
  check_landed<1>(3);
  check_landed<2>(3);
  check_landed<3>(1);
  check_landed<4>(0);
  check_landed<5>(0);
}

// Tiles stream through three buffers, two ahead: each thread brings a chunk and uses others'.
constexpr int kTiles = 11, kStages = 3;
__global__ void streams_tiles(float* out, const float* in) {
  SharedMemory shared;
  const SharedArray<float> ring = shared.take<float>(kStages * 64);
  const int thread = static_cast<int>(threadIdx.x);
  const auto begin = [&](int tile) {
    if (tile < kTiles) {
      cp_async_16(ring.from(tile % kStages * 64), 4 * thread, in + 64 * tile + 4 * thread);
    }
    cp_async_commit();
  };
  begin(0);
  begin(1);
  float sum = 0;
  for (int tile = 0; tile < kTiles; ++tile) {
    cp_async_wait<1>();
    __syncthreads();
    begin(tile + 2);
    for (int i = 0; i < 4; ++i) sum += ring[tile % kStages * 64 + 63 - 4 * thread - i];
  }
  out[thread] = sum;
}

TEST_CASE("emulator: a ring of asynchronous copies gives the same numbers in every order") {
  struct alignas(16) Tiles {
    float value[64 * kTiles];
  } in;
  std::vector<float> expected(16);
  for (int i = 0; i < 64 * kTiles; ++i) {
    in.value[i] = static_cast<float>(mix(static_cast<uint64_t>(i)) % 100);
    expected[static_cast<size_t>((63 - i % 64) / 4)] += in.value[i];
  }
  const float* source = in.value;
  for (const auto& out : in_every_order([&] {
         std::vector<float> out(16);
         launch("streams_tiles", streams_tiles, {1, 16, kSharedBytes}, out.data(), source);
         return out;
       })) {
    CHECK(out == expected);
  }
}

// --- What is wrong

enum class Mistake {
  none,
  no_wait,
  no_commit,
  read_at_once,
  read_of_another,
  write_in_flight,
  copy_in_flight,
  misaligned_target,
  misaligned_source,
  beyond_the_array,
};

__global__ void mistaken(float* out, const Source* source, Mistake mistake) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(64);
  shared.take<float>(64);
  values[threadIdx.x] = 0;
  __syncthreads();
  const float* from = source->value + (mistake == Mistake::misaligned_source ? 1 : 0);
  if (threadIdx.x == 3) {
    const int64_t target = mistake == Mistake::misaligned_target  ? 2
                           : mistake == Mistake::beyond_the_array ? 64
                                                                  : 8;
    cp_async_16(values, target, from);
    if (mistake == Mistake::read_at_once) out[0] = values[8];
    if (mistake == Mistake::write_in_flight) values[11] = 0;
    if (mistake == Mistake::copy_in_flight) cp_async_16(values, 8, from);
    if (mistake != Mistake::no_commit) cp_async_commit();
  }
  __syncthreads();
  if (threadIdx.x == 1 && mistake == Mistake::read_of_another) out[0] = values[8];
  if (mistake != Mistake::no_wait) cp_async_wait<0>();
}

TEST_CASE("emulator: names what is wrong with an asynchronous copy") {
  const Source source = counted();
  const auto told = [&](Mistake mistake) {
    float out = 0;
    const std::string text =
        report([&] { launch("mistaken", mistaken, kOneBlock, &out, &source, mistake); });
    if (!text.empty()) contains(text, "copy_test.cpp:");
    return text;
  };
  const std::string thread = "kernel mistaken, block (0,0,0), thread 3: ";
  CHECK(told(Mistake::none).empty());
  contains(told(Mistake::no_wait), thread + "ends before its asynchronous copies have landed");
  contains(told(Mistake::no_commit), thread + "ends before its asynchronous copies have landed");
  contains(told(Mistake::read_at_once),
           thread + "reads byte 32 of shared memory, to which an asynchronous copy is on its way");
  contains(told(Mistake::read_of_another),
           "kernel mistaken, block (0,0,0), thread 1: reads byte 32 of shared memory, to which an "
           "asynchronous copy is on its way");
  contains(told(Mistake::write_in_flight),
           thread + "writes byte 44 of shared memory, to which an asynchronous copy is on its way");
  contains(told(Mistake::copy_in_flight),
           thread + "begins an asynchronous copy to byte 32 of shared memory, to which another is");
  contains(told(Mistake::misaligned_target),
           thread + "begins an asynchronous copy to an address that is not 16-byte aligned");
  contains(told(Mistake::misaligned_source),
           thread + "begins an asynchronous copy from an address that is not 16-byte aligned");
  contains(told(Mistake::beyond_the_array),
           thread + "uses elements 64 to 67 of 64 in shared memory");
}

TEST_CASE("emulator: copies of a failed block are forgotten") {
  const Source source = counted();
  std::vector<float> out(64);
  for (int i = 0; i < 2; ++i) {
    CHECK_FALSE(report([&] {
                  launch("mistaken", mistaken, kOneBlock, out.data(), &source,
                         Mistake::read_of_another);
                }).empty());
    launch("copies", copies, {1, 16, kSharedBytes}, out.data(), &source, 64);
    CHECK(out[63] == 64);
  }
}

// Reading before anybody has waited is wrong whatever lies there: the bytes are taken away at once.
__global__ void keeps_a_pointer(float* out, const Source* source) {
  SharedMemory shared;
  const SharedArray<float> values = shared.take<float>(4);
  for (int i = 0; i < 4; ++i) values[i] = 7;
  float* place = values.place_of(0, 1, std::source_location::current());
  cp_async_16(values, 0, source->value);
  cp_async_commit();
  out[0] = *place;
  cp_async_wait<0>();
  out[1] = *place;
}

TEST_CASE("emulator: bytes to which a copy is on its way hold NaN until it lands") {
  const Source source = counted();
  std::vector<float> out(2);
  launch("keeps_a_pointer", keeps_a_pointer, {1, 1, 64}, out.data(), &source);
  CHECK(out[0] != out[0]);
  CHECK(out[1] == 1);
}

}  // namespace
}  // namespace normlab
