// Two machines on this one, joined by a cable: network namespaces of Linux with names of their own,
// and one file system.
#pragma once

#include "tests/tools/process.h"

namespace normlab::test {

class TwoMachines {
 public:
  // Whether this machine lets us make them; says that a test is skipped where not.
  static bool possible();

  TwoMachines();
  ~TwoMachines();  // and whatever still runs on them
  TwoMachines(const TwoMachines&) = delete;
  TwoMachines& operator=(const TwoMachines&) = delete;

  std::string name(int machine) const;
  static std::string address(int machine) { return "10.77.0." + std::to_string(machine + 1); }
  // The command that starts one rank on each by mpirun, which runs on the first; a program follows.
  std::vector<std::string> launcher(const std::vector<std::string>& more = {}) const;
  void cut_cable();
  // Those of a program that run on a machine; "": all.
  std::vector<pid_t> processes(int machine, const std::string& program) const;

 private:
  void make();
  void remove();

  TemporaryFolder folder_;
  std::string prefix_;
};

}  // namespace normlab::test
