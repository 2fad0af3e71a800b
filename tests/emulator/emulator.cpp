#include "tests/emulator/emulator.h"

#include <algorithm>
#include <array>

#include "tests/emulator/multiprocessor.h"
#include "tests/emulator/sanitizers.h"

namespace normlab::emulator {
namespace {

// What an architecture has (CUDA C++ programming guide, "Technical specifications per compute
// capability").
struct Limits {
  uint64_t threads_per_block = kMostThreads;
  unsigned block_z = 64;
  unsigned grid_x = 0x7FFFFFFF;
  unsigned grid_y = 65535;
  int64_t shared_bytes = 0;  // of a block, after the opt-in
};

Limits limits_of(int architecture) {
  constexpr std::array<std::pair<int, int64_t>, 3> kShared = {
      {{80, 163 * kKib}, {86, 99 * kKib}, {90, 227 * kKib}}};
  for (const auto& [name, bytes] : kShared) {
    if (name == architecture) return {.shared_bytes = bytes};
  }
  throw Failure("no such architecture: " + std::to_string(architecture));
}

// The device. Blocks that are neighbours in the grid run on different multiprocessors, so that
// ThreadSanitizer, which knows threads by their fibers, can tell them apart: what two of them do is
// ordered by nothing but the launch's start and end.
struct Device {
  Settings settings;
  std::array<Multiprocessor, tsan::kPresent ? 2 : 1> multiprocessors;
  Launch launch;
};

Device& device() {
  static Device only;
  return only;
}

Multiprocessor& multiprocessor_of(Device& d, Extent block) {
  return d.multiprocessors[(block.x + block.y + block.z) % d.multiprocessors.size()];
}

void check_launch(const std::string& kernel, Extent grid, Extent extent, int64_t shared_bytes) {
  const int architecture = device().settings.architecture;
  const Limits limits = limits_of(architecture);
  const auto refuse = [&](const std::string& what) {
    throw Failure("kernel " + kernel + ": cannot be launched on sm_" +
                  std::to_string(architecture) + " (" + what + ")");
  };
  if (extent.count() == 0 || grid.count() == 0) refuse("an empty grid or block");
  if (extent.count() > limits.threads_per_block) {
    refuse(std::to_string(extent.count()) + " threads in a block, at most " +
           std::to_string(limits.threads_per_block));
  }
  if (extent.z > limits.block_z) {
    refuse(std::to_string(extent.z) + " threads in z, at most " + std::to_string(limits.block_z));
  }
  if (grid.x > limits.grid_x) {
    refuse("a grid of " + std::to_string(grid.x) + " in x, at most " +
           std::to_string(limits.grid_x));
  }
  if (std::max(grid.y, grid.z) > limits.grid_y) {
    refuse("a grid of " + std::to_string(std::max(grid.y, grid.z)) + " in y or z, at most " +
           std::to_string(limits.grid_y));
  }
  if (shared_bytes < 0 || shared_bytes > limits.shared_bytes) {
    refuse(std::to_string(shared_bytes) + " bytes of shared memory, at most " +
           std::to_string(limits.shared_bytes));
  }
}

void run_blocks(Device& d, Fiber& host) {
  const Extent grid = d.launch.grid;
  Extent index;
  for (index.z = 0; index.z < grid.z; ++index.z) {
    for (index.y = 0; index.y < grid.y; ++index.y) {
      for (index.x = 0; index.x < grid.x; ++index.x) {
        Multiprocessor& m = multiprocessor_of(d, index);
        m.launch = &d.launch;
        m.index = index;
        m.host = &host;
        running_multiprocessor() = &m;
        run_block(m);
        if (m.failed) return;
      }
    }
  }
}

}  // namespace

void configure(const Settings& settings) {
  limits_of(settings.architecture);
  device().settings = settings;
}

const Settings& settings() { return device().settings; }

void run(const std::string& kernel, Extent grid, Extent extent, int64_t shared_bytes,
         const std::function<void()>& thread_body) {
  Device& d = device();
  check_launch(kernel, grid, extent, shared_bytes);
  if (running_multiprocessor() != nullptr)
    throw Failure("kernel " + kernel + ": launched from a kernel");
  d.launch.kernel = &kernel;
  d.launch.body = &thread_body;
  d.launch.grid = grid;
  d.launch.block = extent;
  d.launch.threads = static_cast<unsigned>(extent.count());
  d.launch.whole_warps = d.launch.threads / kWarp;
  d.launch.shared_bytes = shared_bytes;
  d.launch.order = d.settings.order;
  d.launch.seed = d.settings.seed;
  d.launch.draws = 0;
  Fiber host;
  tsan::release(&d.launch.start);
  run_blocks(d, host);
  for (Multiprocessor& m : d.multiprocessors) {
    for (char& end : m.block_ends) tsan::acquire(&end);
  }
  const Multiprocessor& last = running();
  running_multiprocessor() = nullptr;
  if (last.failed) throw Failure(last.failure);
}

void fail_outside_kernel() { throw Failure("a device function was called outside a kernel"); }

std::string name_of(const Multiprocessor& m, unsigned thread) {
  const auto text = [](unsigned number) { return std::to_string(number); };
  return "kernel " + *m.launch->kernel + ", block (" + text(m.index.x) + "," + text(m.index.y) +
         "," + text(m.index.z) + "), thread " + text(thread);
}

std::string text_of(std::source_location place) {
  return std::string(place.file_name()) + ":" + std::to_string(place.line());
}

std::string text_of(const Operation& operation) {
  const std::string barrier = operation.barrier == 0 ? "" : " " + std::to_string(operation.barrier);
  return operation.name + barrier + " at " + text_of(operation.place);
}

const Extent& thread_index() { return running().current->index; }
const Extent& block_index() { return running().index; }
const Extent& block_extent() { return running().launch->block; }
const Extent& grid_extent() { return running().launch->grid; }
int lane_index() { return static_cast<int>(running().current->number % kWarp); }

}  // namespace normlab::emulator
