// conformance            prints what every verb of kernels/cuda/device.h gives on known input.
// conformance EXPECTED   compares that with a file of such lines; ends with 1 where they differ,
// and with 77 (skipped) where there is no device. tests/conformance/expected.txt is the emulator's.
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>

#include "tests/conformance/dump.h"

namespace normlab::conformance {
namespace {

std::vector<Line> dump() {
  const Device device;
  std::vector<Line> lines;
  dump_warps(device, lines);
  dump_barriers(device, lines);
  dump_numbers(device, lines);
  dump_memory(device, lines);
  dump_copies(device, lines);
  dump_matrices(device, lines);
  dump_products(device, lines);
  return lines;
}

int compare(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw Error(path + " cannot be read");
  const std::vector<Line> expected = from_text({std::istreambuf_iterator<char>(file), {}});
  const std::vector<std::string> found = differences(dump(), expected);
  for (const std::string& difference : found) std::fprintf(stderr, "%s\n", difference.c_str());
  std::printf("%zu lines compared, %zu differ\n", expected.size(), found.size());
  return found.empty() && !expected.empty() ? 0 : 1;
}

}  // namespace
}  // namespace normlab::conformance

int main(int argc, char* argv[]) {
  using namespace normlab::conformance;
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("skipped: there is no CUDA device\n");
    return 77;
  }
  try {
    if (argc > 1) return compare(argv[1]);
    std::printf("%s", to_text(dump()).c_str());
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
