// ptxas_gate RECORDS LIMITS SOURCE…: holds what the compiler said of the kernels of this build
// against tests/ptxas/limits.txt. Ends with 1 where a rule is broken, with 77 (skipped) where the
// build has no CUDA part, and so no SOURCE.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "tests/ptxas/rules.h"

namespace normlab::ptxas {
namespace {

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    throw std::runtime_error(
        path + " cannot be read (remove CMakeFiles/cuda_backend.dir and build again)");
  return {std::istreambuf_iterator<char>(file), {}};
}

void print_costs(const std::vector<FileReport>& reports) {
  double seconds = 0;
  for (const FileReport& report : reports) {
    // Each kernel is there once for sm_80 and once for sm_90a.
    std::printf("%-28s %6.1f s %5zu kernels\n", report.file.c_str(), report.seconds,
                report.kernels.size() / 2);
    seconds += report.seconds;
  }
  std::printf("%-28s %6.1f s of the processor in all\n", "", seconds);
}

int run(const std::string& records, const std::string& limits_path,
        const std::vector<std::string>& sources) {
  const Limits limits = read_limits(content(limits_path));
  std::vector<FileReport> reports;
  Complaints found;
  for (const std::string& source : sources) {
    const std::string file = std::filesystem::path(source).filename();
    reports.push_back(read_report(file, content(records + "/" + file + ".txt")));
  }
  const double cheapest = std::ranges::min(reports, {}, &FileReport::seconds).seconds;
  for (const FileReport& report : reports) {
    const auto bounds = read_launch_bounds(content(report.object));
    const Complaints of_file = complaints(report, bounds, limits, cheapest);
    found.insert(found.end(), of_file.begin(), of_file.end());
  }
  const Complaints idle = idle_limits(reports, limits);
  found.insert(found.end(), idle.begin(), idle.end());
  print_costs(reports);
  for (const std::string& complaint : found) std::fprintf(stderr, "%s\n", complaint.c_str());
  return found.empty() ? 0 : 1;
}

}  // namespace
}  // namespace normlab::ptxas

int main(int argc, char* argv[]) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: ptxas_gate RECORDS LIMITS SOURCE…\n");
    return 2;
  }
  if (argc == 3) {
    std::printf("skipped: this build has no CUDA part\n");
    return 77;
  }
  try {
    return normlab::ptxas::run(argv[1], argv[2], {argv + 3, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
