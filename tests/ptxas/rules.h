// What the gate demands of the kernels, and the exceptions of tests/ptxas/limits.txt.
#pragma once

#include "tests/ptxas/report.h"

namespace normlab::ptxas {

// What a file may cost to compile.
struct Budget {
  double times = 0;  // as long as the cheapest file of the build
  int kernels = 0;   // on each architecture
};

// A spill that is known and permitted.
struct Spill {
  std::string file;
  std::string kernel;
  std::string architecture;
  int bytes = 0;
  std::string reason;
};

struct Limits {
  Budget budget;  // of a file without one of its own
  std::map<std::string, Budget> budget_of;
  std::vector<Spill> spills;
};

// Lines "budget | file or * | times | kernels" and "spill | file | kernel | architecture | bytes
// | reason"; # begins a comment. Throws std::runtime_error naming a line that is neither.
Limits read_limits(const std::string& text);

using Complaints = std::vector<std::string>;

// Complains of kernels that spill beyond the limits, use more registers than a block of their
// launch bounds (of 1,024 threads where they have none) leaves them, or were not compiled for both
// architectures; of serialised wgmma; of a file over its budget, where the cheapest one took
// `cheapest_seconds` of the processor.
Complaints complaints(const FileReport& report, const std::map<std::string, LaunchBounds>& bounds,
                      const Limits& limits, double cheapest_seconds);

// Complains of limits that speak of nothing in the reports: an exception nobody needs hides a spill
// to come.
Complaints idle_limits(const std::vector<FileReport>& reports, const Limits& limits);

}  // namespace normlab::ptxas
