// ldmatrix and mma.
#include <bit>

#include "tests/conformance/dump.h"

namespace normlab::conformance {
namespace {

constexpr int kLanes = 32;

// Four 8×8 matrices that lie anywhere in a shared array: rows begin at random multiples of 8.
constexpr int kElements = 1024;

template <bool kTransposed>
__global__ void __launch_bounds__(kLanes)
    ldmatrix_kernel(uint32_t* y, const uint32_t* x, const uint32_t* places) {
  SharedMemory memory;
  const SharedArray<BFloat16> shared = memory.take<BFloat16>(kElements);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < kElements; i += kLanes) {
    shared[i] = BFloat16{static_cast<uint16_t>(x[i / 2] >> (i % 2 * 16))};
  }
  __syncthreads();
  uint32_t fragment[4];
  const int64_t place = places[lane] % (kElements / 8) * 8;
  if constexpr (kTransposed) {
    ldmatrix_x4_transposed(fragment, shared, place);
  } else {
    ldmatrix_x4(fragment, shared, place);
  }
  for (int i = 0; i < 4; ++i) y[i * kLanes + lane] = fragment[i];
}

// d += a · b twice, the second time with the halves of a's fragment exchanged.
__global__ void __launch_bounds__(kLanes)
    mma_kernel(float* d, const uint32_t* a, const uint32_t* b) {
  const int lane = static_cast<int>(threadIdx.x);
  float sum[4];
  uint32_t left[4], exchanged[4];
  for (int i = 0; i < 4; ++i) {
    sum[i] = d[i * kLanes + lane];
    left[i] = a[i * kLanes + lane];
    exchanged[i ^ 2] = left[i];
  }
  mma_m16n8k16(sum, left, b[lane], b[kLanes + lane]);
  mma_m16n8k16(sum, exchanged, b[lane], b[kLanes + lane]);
  for (int i = 0; i < 4; ++i) d[i * kLanes + lane] = sum[i];
}

// Pairs of bf16, which is exact for `values`.
std::vector<uint32_t> packed(const std::vector<float>& values) {
  std::vector<uint32_t> words;
  for (size_t i = 0; i < values.size(); i += 2) {
    words.push_back(std::bit_cast<uint32_t>(values[i]) >> 16 |
                    (std::bit_cast<uint32_t>(values[i + 1]) & 0xFFFF0000u));
  }
  return words;
}

std::vector<float> random_integers(size_t count, uint32_t seed) {
  std::vector<float> values;
  for (const uint32_t word : random_words(count, seed)) {
    values.push_back(static_cast<float>(word % 33) - 16.0f);
  }
  return values;
}

std::vector<float> random_bfloat16(size_t count, uint32_t seed) {
  std::vector<float> values;
  for (const float value : random_floats(count, seed, -1, 1)) {
    values.push_back(to_float(round_to_bfloat16(value)));
  }
  return values;
}

void dump_product(const Device& device, std::vector<Line>& lines, const Line& line,
                  const std::vector<float>& sum, const std::vector<float>& left,
                  const std::vector<float>& right) {
  const DeviceArray<float> d(device, sum);
  const DeviceArray<uint32_t> a(device, packed(left)), b(device, packed(right));
  launch("mma_m16n8k16", mma_kernel, {1, kLanes, 0, device.stream()}, d.data(), a.data(), b.data());
  lines.push_back(line);
  lines.back().words = d.words();
}

}  // namespace

void dump_matrices(const Device& device, std::vector<Line>& lines) {
  const LaunchShape shape{1, kLanes, SharedMemory::shared_array_bytes<BFloat16>(kElements),
                          device.stream()};
  const DeviceArray<uint32_t> x(device, random_words(kElements / 2, 13)),
      places(device, random_words(kLanes, 14));
  const DeviceArray<uint32_t> plain(device, std::vector<uint32_t>(4 * kLanes)),
      transposed(device, std::vector<uint32_t>(4 * kLanes));
  launch("ldmatrix_x4", ldmatrix_kernel<false>, shape, plain.data(), x.data(), places.data());
  lines.push_back({"ldmatrix_x4", "random_rows", Agreement::bits, 0, plain.words()});
  launch("ldmatrix_x4_transposed", ldmatrix_kernel<true>, shape, transposed.data(), x.data(),
         places.data());
  lines.push_back(
      {"ldmatrix_x4_transposed", "random_rows", Agreement::bits, 0, transposed.words()});
}

void dump_products(const Device& device, std::vector<Line>& lines) {
  // Sums of integers below 2^24 are exact in any order.
  dump_product(device, lines, {"mma_m16n8k16", "integers", Agreement::bits, 0, {}},
               random_integers(4 * kLanes, 15), random_integers(8 * kLanes, 16),
               random_integers(4 * kLanes, 17));
  // 33 terms of at most 1: whatever a tensor core cuts off when it aligns them is below 2^-18 each
  // time, while a number in the wrong place is off by about 1.
  dump_product(device, lines, {"mma_m16n8k16", "random", Agreement::within, 0x1p-15, {}},
               random_floats(4 * kLanes, 18, -1, 1), random_bfloat16(8 * kLanes, 19),
               random_bfloat16(4 * kLanes, 20));
}

}  // namespace normlab::conformance
