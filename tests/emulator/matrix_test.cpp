// ldmatrix and mma against loops, from what the PTX ISA says of fragments; and the conversions that
// make them.
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/random.h"
#include "tests/emulator/report.h"

namespace normlab {
namespace {

// A number of at most 8 bits, between -4 and 4, of which bf16 keeps all.
float small_number(uint64_t seed) { return static_cast<float>(mix(seed) % 255) / 32 - 4; }

// --- ldmatrix

constexpr int kElements = 1024;

__global__ void loads(uint32_t* plain, uint32_t* transposed, const int* places) {
  SharedMemory shared;
  const SharedArray<BFloat16> values = shared.take<BFloat16>(kElements);
  for (unsigned i = threadIdx.x; i < kElements; i += blockDim.x) {
    values[i] = BFloat16{static_cast<uint16_t>(7 * i)};
  }
  __syncthreads();
  uint32_t fragment[4];
  ldmatrix_x4(fragment, values, places[threadIdx.x]);
  for (int i = 0; i < 4; ++i) plain[4 * threadIdx.x + i] = fragment[i];
  ldmatrix_x4_transposed(fragment, values, places[threadIdx.x]);
  for (int i = 0; i < 4; ++i) transposed[4 * threadIdx.x + i] = fragment[i];
}

TEST_CASE(
    "emulator: ldmatrix gives each lane its part of four matrices, as they are or transposed") {
  std::vector<int> places;
  for (uint64_t i = 0; i < 64; ++i)
    places.push_back(static_cast<int>(mix(i) % (kElements / 8)) * 8);
  for (const auto& [plain, transposed] : in_every_order([&] {
         std::pair<std::vector<uint32_t>, std::vector<uint32_t>> out(256, 256);
         launch("loads", loads, kOneBlock, out.first.data(), out.second.data(), places.data());
         return out;
       })) {
    for (int thread = 0; thread < 64; ++thread) {
      const int lane = thread % 32, first_of_warp = thread - lane;
      const auto element = [&](int matrix, int row, int column) {
        return static_cast<uint16_t>(
            7 * (places[static_cast<size_t>(first_of_warp + 8 * matrix + row)] + column));
      };
      for (int matrix = 0; matrix < 4; ++matrix) {
        const int row = lane / 4, column = 2 * (lane % 4);
        const auto at = static_cast<size_t>(4 * thread + matrix);
        CHECK((plain[at] & 0xFFFF) == element(matrix, row, column));
        CHECK(plain[at] >> 16 == element(matrix, row, column + 1));
        CHECK((transposed[at] & 0xFFFF) == element(matrix, column, row));
        CHECK(transposed[at] >> 16 == element(matrix, column + 1, row));
      }
    }
  }
}

// Lane 9 gives `place`; of each row only `written` elements were written.
__global__ void loads_from(uint32_t* out, int64_t place, int written) {
  SharedMemory shared;
  const SharedArray<BFloat16> values = shared.take<BFloat16>(32 * 8);
  shared.take<BFloat16>(64);
  for (int i = 0; i < written; ++i) values[8 * threadIdx.x + i] = BFloat16{1};
  __syncthreads();
  uint32_t fragment[4];
  ldmatrix_x4_transposed(fragment, values, threadIdx.x == 9 ? place : int64_t{8 * threadIdx.x});
  out[threadIdx.x] = fragment[0];
}

TEST_CASE("emulator: names what is wrong with a row of ldmatrix") {
  std::vector<uint32_t> out(32);
  const auto loaded = [&](int64_t place, int written) {
    return report([&] { launch("loads_from", loads_from, kOneWarp, out.data(), place, written); });
  };
  const std::string lane = "kernel loads_from, block (0,0,0), thread 9: ";
  CHECK(loaded(72, 8).empty());
  contains(loaded(76, 8), lane + "gives ldmatrix a row that is not 16-byte aligned at ");
  contains(loaded(256, 8), lane + "uses elements 256 to 263 of 256 in shared memory at ");
  contains(loaded(-8, 8), lane + "uses elements -8 to -1 of 256 in shared memory at ");
  contains(loaded(72, 7), "thread 0: reads byte 14 of shared memory, which was never written, at ");
  contains(loaded(72, 7), "matrix_test.cpp:");
}

struct alignas(16) Row {
  BFloat16 element[8];
};

__global__ void loads_before_the_wait(uint32_t* out, const Row* rows) {
  SharedMemory shared;
  const SharedArray<BFloat16> values = shared.take<BFloat16>(32 * 8);
  cp_async_16(values, 8 * threadIdx.x, rows[threadIdx.x].element);
  cp_async_commit();
  uint32_t fragment[4];
  ldmatrix_x4(fragment, values, 8 * threadIdx.x);
  cp_async_wait<0>();
  out[threadIdx.x] = fragment[0];
}

TEST_CASE("emulator: names a row of ldmatrix to which a copy is on its way") {
  std::vector<uint32_t> out(32);
  const std::vector<Row> rows(32);
  contains(report([&] {
             launch("loads_before_the_wait", loads_before_the_wait, kOneWarp, out.data(),
                    rows.data());
           }),
           "thread 0: reads byte 0 of shared memory, to which an asynchronous copy is on its way");
}

// --- mma

// Each lane fills its fragments by itself, from the matrices a (16,16), b (16,8) and d (16,8).
__global__ void multiplies(float* d, const float* a, const float* b) {
  const int lane = static_cast<int>(threadIdx.x) % 32, group = lane / 4, t = lane % 4;
  const auto pair_of_a = [&](int row, int column) {
    return pack_bfloat16(a[16 * row + column], a[16 * row + column + 1]);
  };
  const auto pair_of_b = [&](int k) {
    return pack_bfloat16(b[8 * k + group], b[8 * k + 8 + group]);
  };
  const uint32_t left[4] = {pair_of_a(group, 2 * t), pair_of_a(group + 8, 2 * t),
                            pair_of_a(group, 2 * t + 8), pair_of_a(group + 8, 2 * t + 8)};
  float sum[4] = {d[8 * group + 2 * t], d[8 * group + 2 * t + 1], d[8 * (group + 8) + 2 * t],
                  d[8 * (group + 8) + 2 * t + 1]};
  mma_m16n8k16(sum, left, pair_of_b(2 * t), pair_of_b(2 * t + 8));
  d[8 * group + 2 * t] = sum[0];
  d[8 * group + 2 * t + 1] = sum[1];
  d[8 * (group + 8) + 2 * t] = sum[2];
  d[8 * (group + 8) + 2 * t + 1] = sum[3];
}

TEST_CASE("emulator: mma is the product of its matrices added to a third") {
  std::vector<float> a, b, d;
  for (uint64_t i = 0; i < 256; ++i) a.push_back(small_number(i));
  for (uint64_t i = 0; i < 128; ++i) b.push_back(small_number(1000 + i));
  for (uint64_t i = 0; i < 128; ++i) d.push_back(small_number(2000 + i));
  const auto results = in_every_order([&] {
    std::vector<float> out = d;
    launch("multiplies", multiplies, kOneWarp, out.data(), a.data(), b.data());
    return out;
  });
  for (const auto& out : results) {
    for (size_t row = 0; row < 16; ++row) {
      for (size_t column = 0; column < 8; ++column) {
        double sum = static_cast<double>(d[8 * row + column]);
        for (size_t k = 0; k < 16; ++k) {
          sum += static_cast<double>(a[16 * row + k]) * static_cast<double>(b[8 * k + column]);
        }
        // Every partial sum is a multiple of 2^-10 below 2^9: exact in float too.
        CHECK(static_cast<double>(out[8 * row + column]) == sum);
      }
    }
  }
}

// --- Numbers

__global__ void converts(float* powers, uint32_t* packed, uint32_t* alone, const float* x) {
  const unsigned i = threadIdx.x;
  powers[i] = exp2_approximate(x[i]);
  packed[i] = pack_bfloat16(x[i], x[i + 1]);
  alone[i] = to_bfloat16(x[i]).bits;
}

// The nearest bf16, found among the two neighbours in double; ties go to the even one.
uint16_t nearest_bfloat16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const auto value_of = [](uint32_t upper) {
    const uint32_t word = upper << 16;
    float value;
    std::memcpy(&value, &word, sizeof value);
    return static_cast<double>(value);
  };
  const uint32_t below = bits >> 16, above = below + 1;
  const double to_below = std::fabs(static_cast<double>(x) - value_of(below));
  const double to_above = std::fabs(static_cast<double>(x) - value_of(above));
  if (to_below != to_above) return static_cast<uint16_t>(to_below < to_above ? below : above);
  return static_cast<uint16_t>(below % 2 == 0 ? below : above);
}

TEST_CASE("emulator: powers of two, and numbers rounded to bf16 in pairs") {
  constexpr size_t kCount = 1000;
  std::vector<float> x, powers(kCount);
  std::vector<uint32_t> packed(kCount), alone(kCount);
  for (uint64_t i = 0; i <= kCount; ++i) {
    x.push_back(static_cast<float>(mix(i) >> 40) * 0x1p-24f * 250 - 125);
  }
  x[0] = 1.00390625f;   // a tie: down to even
  x[1] = -1.01171875f;  // a tie: up to even
  launch("converts", converts, {1, kCount}, powers.data(), packed.data(), alone.data(), x.data());
  for (size_t i = 0; i < kCount; ++i) {
    const double power = std::exp2(static_cast<double>(x[i]));
    CHECK(std::fabs(static_cast<double>(powers[i]) - power) <= 0x1p-22 * power);
    CHECK(alone[i] == nearest_bfloat16(x[i]));
    CHECK(packed[i] == (nearest_bfloat16(x[i]) | uint32_t{nearest_bfloat16(x[i + 1])} << 16));
  }
}

__global__ void raises(float* powers, const float* x) {
  powers[threadIdx.x] = exp2_approximate(x[threadIdx.x]);
}

TEST_CASE("emulator: 2^x flushes what is below the normal numbers, and keeps NaN") {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {-126, -126.5f, -149, -infinity, 128, infinity, 0};
  std::vector<float> powers(x.size());
  launch("raises", raises, {1, static_cast<unsigned>(x.size())}, powers.data(), x.data());
  CHECK(powers == std::vector<float>{0x1p-126f, 0, 0, 0, infinity, infinity, 1});
  const float nan = std::nanf("");
  launch("raises", raises, {1, 1}, powers.data(), &nan);
  CHECK(powers[0] != powers[0]);
}

}  // namespace
}  // namespace normlab
