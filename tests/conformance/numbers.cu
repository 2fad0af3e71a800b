// Exponentials and roundings.
#include <bit>
#include <cmath>
#include <limits>

#include "tests/conformance/dump.h"

namespace normlab::conformance {
namespace {

constexpr int kThreads = 32;

__global__ void __launch_bounds__(kThreads) exp2_kernel(float* y, const float* x) {
  y[threadIdx.x] = exp2_approximate(x[threadIdx.x]);
}

__global__ void __launch_bounds__(kThreads) pack_kernel(uint32_t* y, const float* x) {
  y[threadIdx.x] = pack_bfloat16(x[threadIdx.x], x[(threadIdx.x + 1) % kThreads]);
}

__global__ void __launch_bounds__(kThreads) round_kernel(uint32_t* y, const float* x) {
  y[threadIdx.x] = to_bfloat16(x[threadIdx.x]).bits;
}

void dump_exp2(const Device& device, std::vector<Line>& lines, const std::string& name,
               Agreement agreement, double bound, std::vector<float> values) {
  values.resize(kThreads);
  const DeviceArray<float> x(device, values), y(device, std::vector<float>(kThreads));
  launch("exp2_approximate", exp2_kernel, {1, kThreads, 0, device.stream()}, y.data(), x.data());
  lines.push_back({"exp2_approximate", name, agreement, bound, y.words()});
}

void dump_roundings(const Device& device, std::vector<Line>& lines, const std::string& name,
                    std::vector<float> values) {
  values.resize(kThreads);
  const LaunchShape shape{1, kThreads, 0, device.stream()};
  const DeviceArray<float> x(device, values);
  const DeviceArray<uint32_t> packed(device, std::vector<uint32_t>(kThreads)),
      rounded(device, std::vector<uint32_t>(kThreads));
  launch("pack_bfloat16", pack_kernel, shape, packed.data(), x.data());
  lines.push_back({"pack_bfloat16", name, Agreement::bits, 0, packed.words()});
  launch("to_bfloat16", round_kernel, shape, rounded.data(), x.data());
  lines.push_back({"to_bfloat16", name, Agreement::bits, 0, rounded.words()});
}

std::vector<float> floats_of(const std::vector<uint32_t>& words) {
  std::vector<float> values;
  for (const uint32_t word : words) values.push_back(std::bit_cast<float>(word));
  return values;
}

}  // namespace

void dump_numbers(const Device& device, std::vector<Line>& lines) {
  // The device is within 2 ulp of 2^x, the emulator within 1.
  constexpr double kUlps = 3;
  dump_exp2(device, lines, "fractions", Agreement::ulps, kUlps, random_floats(kThreads, 4, -1, 0));
  dump_exp2(device, lines, "normal_results", Agreement::ulps, kUlps,
            random_floats(kThreads, 5, -125, 127));
  const float infinity = std::numeric_limits<float>::infinity();
  // The manual's table: 2^±0 = 1, 2^−inf = +0, 2^inf = inf; no subnormal goes in or comes out.
  dump_exp2(device, lines, "special", Agreement::bits, 0,
            {0.0f, -0.0f, -infinity, infinity, 128.0f, 1000.0f, -150.0f, -1000.0f, -126.5f, -130.0f,
             1e-40f, -1e-40f});
  dump_exp2(device, lines, "not_a_number", Agreement::ulps, 0, {std::nanf("")});

  // Any bits, which are mostly normal numbers of all sizes; few mantissa bits beyond bf16's, which
  // are mostly ties; and what is special.
  dump_roundings(device, lines, "random", floats_of(random_words(kThreads, 6)));
  std::vector<uint32_t> ties = random_words(kThreads, 7);
  for (uint32_t& word : ties) word = (word & 0x3FFF0000u) | 0x8000u;
  dump_roundings(device, lines, "ties", floats_of(ties));
  dump_roundings(device, lines, "special",
                 floats_of({0x00000000, 0x80000000, 0x7F800000, 0xFF800000, 0x7F7FFFFF, 0xFF7FFFFF,
                            0x7F7F7FFF, 0x7F7F8000, 0x00000001, 0x807FFFFF, 0x00007FFF, 0x00008000,
                            0x00018000, 0x3F7FFFFF, 0x3F808000, 0x3F818000}));
  // A NaN becomes 0x7FFF, whatever it held.
  dump_roundings(device, lines, "not_a_number",
                 floats_of({0x7FC00000, 0xFFC00000, 0x7FFFFFFF, 0xFFC12345, 0x7FC0FFFF}));
}

}  // namespace normlab::conformance
