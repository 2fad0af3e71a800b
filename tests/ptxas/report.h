// What the compiler said of the kernels of one file, read back from the record that
// tests/ptxas/record kept of the build, and from the object file.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace normlab::ptxas {

// A kernel on one architecture.
struct KernelReport {
  std::string symbol;        // as the object file has it
  std::string name;          // as the source has it, with its template's arguments: norm<float, 4>
  std::string architecture;  // sm_80
  int registers = 0;         // of a thread
  int spilled_bytes = 0;     // of a thread, stored or loaded, whichever is more
};

struct FileReport {
  std::string file;    // norm.cu
  std::string object;  // its path
  double seconds = 0;  // of the processor, for all architectures
  std::vector<KernelReport> kernels;
  std::vector<std::string> advisories;  // "(C7510) Potential Performance Loss: wgmma…"
};

// `record`: the text that tests/ptxas/record wrote. Throws std::runtime_error where it is not that.
FileReport read_report(const std::string& file, const std::string& record);

// The kernel's name without scope, result and parameters.
std::string kernel_name(const std::string& symbol);

// Of __launch_bounds__.
struct LaunchBounds {
  int threads = 0;  // of a block; 0: there are none
  int blocks = 1;   // on a multiprocessor at a time
};

// By symbol, for every kernel of an object file whose PTX is not compressed.
std::map<std::string, LaunchBounds> read_launch_bounds(std::string_view object);

}  // namespace normlab::ptxas
