#include "tests/ptxas/rules.h"

#include <algorithm>
#include <cstdio>
#include <sstream>
#include <stdexcept>

namespace normlab::ptxas {
namespace {

// "a | b | c" as {a, b, c}.
std::vector<std::string> fields_of(const std::string& line) {
  std::vector<std::string> fields;
  std::istringstream stream(line);
  for (std::string field; std::getline(stream, field, '|');) {
    const size_t first = field.find_first_not_of(' ');
    const size_t last = field.find_last_not_of(' ');
    fields.push_back(first == std::string::npos ? "" : field.substr(first, last - first + 1));
  }
  return fields;
}

bool permits(const Spill& spill, const FileReport& report, const KernelReport& kernel) {
  return spill.file == report.file && spill.kernel == kernel.name &&
         spill.architecture == kernel.architecture;
}

int permitted_bytes(const Limits& limits, const FileReport& report, const KernelReport& kernel) {
  for (const Spill& spill : limits.spills) {
    if (permits(spill, report, kernel)) return spill.bytes;
  }
  return 0;
}

std::string place(const FileReport& report, const KernelReport& kernel) {
  return report.file + ": " + kernel.name + " for " + kernel.architecture;
}

void check_registers(Complaints& found, const std::string& where, int registers,
                     const LaunchBounds& bounds) {
  // A multiprocessor has 65,536 registers and gives them out to warps in units of 8 a thread (CUDA
  // C++ Programming Guide, "Technical Specifications per Compute Capability").
  // Without launch bounds a block may be as large as any, of 1,024 threads.
  const int threads = bounds.threads == 0 ? 1024 : (bounds.threads + 31) / 32 * 32;
  const int needed = (registers + 7) / 8 * 8 * threads * bounds.blocks;
  if (needed <= 65536) return;
  const std::string uses = where + ": uses " + std::to_string(registers) + " registers, and ";
  if (bounds.threads == 0) {
    found.push_back(uses + "has no __launch_bounds__: a block of 1024 threads does not fit");
  } else {
    found.push_back(uses + std::to_string(bounds.blocks) + " block(s) of " +
                    std::to_string(bounds.threads) + " threads, its launch bounds, do not fit");
  }
}

void check_budget(Complaints& found, const FileReport& report, const Limits& limits,
                  double cheapest_seconds) {
  const auto own = limits.budget_of.find(report.file);
  const Budget& budget = own == limits.budget_of.end() ? limits.budget : own->second;
  if (report.seconds > budget.times * cheapest_seconds) {
    char text[120];
    std::snprintf(text, sizeof text,
                  ": took nvcc %.1f times as long as the cheapest file (its budget is %.1f)",
                  report.seconds / cheapest_seconds, budget.times);
    found.push_back(report.file + text);
  }
  std::map<std::string, int> kernels;
  for (const KernelReport& kernel : report.kernels) ++kernels[kernel.architecture];
  for (const auto& [architecture, count] : kernels) {
    if (count > budget.kernels) {
      found.push_back(report.file + ": has " + std::to_string(count) + " kernels for " +
                      architecture + " (its budget is " + std::to_string(budget.kernels) + ")");
    }
  }
}

}  // namespace

Limits read_limits(const std::string& text) {
  Limits limits;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::vector<std::string> fields = fields_of(line.substr(0, line.find('#')));
    if (fields.empty() || (fields.size() == 1 && fields[0].empty())) continue;
    if (fields[0] == "budget" && fields.size() == 4) {
      const Budget budget{std::atof(fields[2].c_str()), std::atoi(fields[3].c_str())};
      (fields[1] == "*" ? limits.budget : limits.budget_of[fields[1]]) = budget;
    } else if (fields[0] == "spill" && fields.size() == 6 && !fields[5].empty()) {
      limits.spills.push_back(
          {fields[1], fields[2], fields[3], std::atoi(fields[4].c_str()), fields[5]});
    } else {
      throw std::runtime_error("this limit is neither budget nor spill: " + line);
    }
  }
  return limits;
}

Complaints complaints(const FileReport& report, const std::map<std::string, LaunchBounds>& bounds,
                      const Limits& limits, double cheapest_seconds) {
  Complaints found;
  for (const std::string& advisory : report.advisories)
    found.push_back(report.file + ": " + advisory);
  for (const KernelReport& kernel : report.kernels) {
    const std::string where = place(report, kernel);
    const int permitted = permitted_bytes(limits, report, kernel);
    if (kernel.spilled_bytes > permitted) {
      found.push_back(where + ": spills " + std::to_string(kernel.spilled_bytes) + " bytes" +
                      " (permitted: " + std::to_string(permitted) + ")");
    }
    const auto kernel_bounds = bounds.find(kernel.symbol);
    check_registers(found, where, kernel.registers,
                    kernel_bounds == bounds.end() ? LaunchBounds{} : kernel_bounds->second);
  }
  // Else what cannot be read would be right.
  for (const auto& [symbol, unused] : bounds) {
    for (const char* architecture : {"sm_80", "sm_90a"}) {
      const bool reported = std::ranges::any_of(report.kernels, [&](const KernelReport& kernel) {
        return kernel.symbol == symbol && kernel.architecture == architecture;
      });
      if (!reported) {
        found.push_back(report.file + ": nothing is known of " + kernel_name(symbol) + " for " +
                        architecture);
      }
    }
  }
  check_budget(found, report, limits, cheapest_seconds);
  return found;
}

Complaints idle_limits(const std::vector<FileReport>& reports, const Limits& limits) {
  Complaints found;
  for (const Spill& spill : limits.spills) {
    const bool needed = std::ranges::any_of(reports, [&](const FileReport& report) {
      return std::ranges::any_of(report.kernels, [&](const KernelReport& kernel) {
        return kernel.spilled_bytes > 0 && permits(spill, report, kernel);
      });
    });
    if (!needed) {
      found.push_back("limits.txt permits a spill that is no more: " + spill.file + ", " +
                      spill.kernel + ", " + spill.architecture);
    }
  }
  for (const auto& [file, unused] : limits.budget_of) {
    if (std::ranges::count(reports, file, &FileReport::file) == 0) {
      found.push_back("limits.txt has a budget for " + file + ", which is not compiled");
    }
  }
  return found;
}

}  // namespace normlab::ptxas
