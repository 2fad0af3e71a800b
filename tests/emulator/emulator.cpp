#include "tests/emulator/emulator.h"

#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <sstream>
#include <vector>

#include "kernels/random.h"
#include "tests/emulator/fiber.h"
#include "tests/emulator/sanitizers.h"

namespace normlab::emulator {
namespace {

constexpr unsigned kWarp = kLanes;

// What an architecture has (CUDA programming guide, "Technical specifications per compute
// capability").
struct Limits {
  unsigned threads_per_block = 1024;
  unsigned grid_y = 65535;
  int64_t shared_bytes = 0;  // of a block, after the opt-in
};

Limits limits_of(int architecture) {
  constexpr int64_t kKib = 1024;
  const std::map<int, int64_t> shared = {{80, 163 * kKib}, {86, 99 * kKib}, {90, 227 * kKib}};
  const auto found = shared.find(architecture);
  if (found == shared.end()) throw Failure("no such architecture: " + std::to_string(architecture));
  return {.shared_bytes = found->second};
}

// What threads wait in: the name of the operation, and where it is called.
struct Operation {
  const char* name = nullptr;
  const char* file = nullptr;
  unsigned line = 0;
  bool operator==(const Operation&) const = default;
  bool operator<(const Operation& other) const { return line < other.line; }
};

struct Thread {
  std::unique_ptr<Fiber> fiber;
  bool started = false;
  bool finished = false;
  Operation waits_in;
};

// Thrown in a thread of a block that has failed, to unwind its stack.
struct Cancelled {};

// Threads that meet in one operation.
struct Rendezvous {
  Operation operation;  // of the first to arrive
  std::vector<unsigned> waiting;
  WarpArguments arguments{};
  // Barriers that were passed. ThreadSanitizer orders threads by the address of a byte; two in
  // turn, lest a thread that is woken late be ordered after what another did before the next
  // barrier.
  uint64_t passed = 0;
  char synchronization[2] = {};
};

struct Block {
  std::string kernel;
  Extent grid, block, index;
  std::vector<Thread> threads;
  std::vector<Rendezvous> warps;
  Rendezvous barrier;
  std::deque<unsigned> ready;
  unsigned current = 0;
  std::vector<std::byte> shared;  // with room to align
  std::byte* shared_base = nullptr;
  int64_t shared_bytes = 0;
  std::vector<bool> written;
  std::string failure;
  uint64_t draws = 0;
  char start = 0, end = 0;
  Fiber host;

  unsigned thread_count() const { return static_cast<unsigned>(threads.size()); }
};

Settings chosen;
Block* running = nullptr;

Block& block() {
  if (running == nullptr) throw Failure("a device function was called outside a kernel");
  return *running;
}

std::string name_of(const Block& b, unsigned thread) {
  std::ostringstream text;
  text << "kernel " << b.kernel << ", block (" << b.index.x << "," << b.index.y << "," << b.index.z
       << "), thread " << thread;
  return text.str();
}

std::string text_of(const Operation& operation) {
  return std::string(operation.name) + " at " + operation.file + ":" +
         std::to_string(operation.line);
}

void make_ready(Block& b, std::vector<unsigned>& threads) {
  switch (chosen.order) {
    case Order::forward:
      std::sort(threads.begin(), threads.end());
      break;
    case Order::backward:
      std::sort(threads.rbegin(), threads.rend());
      break;
    case Order::shuffled:
      for (size_t i = threads.size(); i > 1; --i) {
        const uint64_t draw = mix(mix(chosen.seed) ^ b.draws++);
        std::swap(threads[i - 1], threads[draw % i]);
      }
      break;
    case Order::run_ahead:
      std::sort(threads.begin(), threads.end());
      b.ready.insert(b.ready.begin(), threads.begin(), threads.end());
      threads.clear();
      return;
  }
  b.ready.insert(b.ready.end(), threads.begin(), threads.end());
  threads.clear();
}

// Nobody can go on: says who waits for what, one thread for each thing, and who has ended.
std::string deadlock(const Block& b) {
  std::map<Operation, std::vector<unsigned>> waiting;
  unsigned finished = 0;
  for (unsigned i = 0; i < b.thread_count(); ++i) {
    if (b.threads[i].finished) {
      ++finished;
    } else {
      waiting[b.threads[i].waits_in].push_back(i);
    }
  }
  const unsigned first = waiting.begin()->second.front();
  std::string text = name_of(b, first) + ": waits for ever;";
  for (const auto& [operation, threads] : waiting) {
    text += " " + std::to_string(threads.size()) +
            " threads (first: " + std::to_string(threads.front()) + ") wait in " +
            text_of(operation) + ";";
  }
  return text + " " + std::to_string(finished) + " threads have ended";
}

// Who goes on after the running thread, which waits or has ended: another one, or the host.
Fiber* choose_next(Block& b) {
  if (b.failure.empty() && b.ready.empty()) {
    const bool all_finished =
        std::all_of(b.threads.begin(), b.threads.end(), [](const Thread& t) { return t.finished; });
    if (!all_finished) b.failure = deadlock(b);
  }
  if (!b.failure.empty() || b.ready.empty()) return &b.host;
  b.current = b.ready.front();
  b.ready.pop_front();
  b.threads[b.current].started = true;
  return b.threads[b.current].fiber.get();
}

// Lets others run until the running thread is woken.
void let_others_run(Block& b) {
  Fiber* from = b.threads[b.current].fiber.get();
  Fiber* to = choose_next(b);
  if (from != to) switch_fiber(*from, *to);
  if (!b.failure.empty()) throw Cancelled{};
}

// The body of every fiber.
void thread_main(void* argument) {
  Block& b = *running;
  tsan::acquire(&b.start);
  try {
    (*static_cast<const std::function<void()>*>(argument))();
  } catch (const Cancelled&) {
  } catch (const std::exception& error) {
    const tsan::Quiet quiet;
    b.failure = name_of(b, b.current) + ": throws \"" + error.what() + "\"";
  }
  Fiber* from = nullptr;
  Fiber* to = nullptr;
  {
    const tsan::Quiet quiet;
    tsan::release(&b.end);
    b.threads[b.current].finished = true;
    from = b.threads[b.current].fiber.get();
    to = choose_next(b);
  }
  switch_fiber(*from, *to);
}

// Unwinds the stacks of a failed block's threads.
void cancel(Block& b) {
  for (unsigned i = 0; i < b.thread_count(); ++i) {
    if (!b.threads[i].started || b.threads[i].finished) continue;
    b.current = i;
    switch_fiber(b.host, *b.threads[i].fiber);
  }
}

void check_launch(const std::string& kernel, Extent grid, Extent extent, int64_t shared_bytes) {
  const Limits limits = limits_of(chosen.architecture);
  const auto refuse = [&](const std::string& what) {
    throw Failure("kernel " + kernel + ": cannot be launched on sm_" +
                  std::to_string(chosen.architecture) + " (" + what + ")");
  };
  if (extent.count() == 0 || grid.count() == 0) refuse("an empty grid or block");
  if (extent.count() > limits.threads_per_block) {
    refuse(std::to_string(extent.count()) + " threads in a block, at most " +
           std::to_string(limits.threads_per_block));
  }
  if (extent.z > 64) refuse(std::to_string(extent.z) + " threads in z, at most 64");
  if (std::max(grid.y, grid.z) > limits.grid_y) {
    refuse("a grid of " + std::to_string(std::max(grid.y, grid.z)) + " in y or z, at most " +
           std::to_string(limits.grid_y));
  }
  if (shared_bytes > limits.shared_bytes) {
    refuse(std::to_string(shared_bytes) + " bytes of shared memory, at most " +
           std::to_string(limits.shared_bytes));
  }
}

void run_block(Block& b, const std::function<void()>& body) {
  const tsan::Quiet quiet;
  constexpr size_t kAlignment = 1024;
  b.shared.assign(static_cast<size_t>(b.shared_bytes) + kAlignment, std::byte{0xFF});
  const auto address = reinterpret_cast<uintptr_t>(b.shared.data());
  b.shared_base = b.shared.data() + (kAlignment - address % kAlignment) % kAlignment;
  b.written.assign(static_cast<size_t>(b.shared_bytes), false);
  std::vector<unsigned> all;
  for (unsigned i = 0; i < b.thread_count(); ++i) {
    b.threads[i].fiber =
        std::make_unique<Fiber>(thread_main, const_cast<void*>(static_cast<const void*>(&body)));
    all.push_back(i);
  }
  b.warps.resize((b.thread_count() + kWarp - 1) / kWarp);
  make_ready(b, all);
  tsan::release(&b.start);
  switch_fiber(b.host, *choose_next(b));
  tsan::acquire(&b.end);
  if (b.failure.empty()) return;
  cancel(b);
  tsan::acquire(&b.end);
  throw Failure(b.failure);
}

}  // namespace

void configure(const Settings& settings) {
  limits_of(settings.architecture);
  chosen = settings;
}

const Settings& settings() { return chosen; }

void run(const std::string& kernel, Extent grid, Extent extent, int64_t shared_bytes,
         const std::function<void()>& thread_body) {
  check_launch(kernel, grid, extent, shared_bytes);
  if (running != nullptr) throw Failure("kernel " + kernel + ": launched from a kernel");
  for (unsigned i = 0; i < grid.count(); ++i) {
    Block b;
    b.kernel = kernel;
    b.grid = grid;
    b.block = extent;
    b.index = {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
    b.threads.resize(extent.count());
    b.shared_bytes = shared_bytes;
    running = &b;
    try {
      run_block(b, thread_body);
    } catch (...) {
      running = nullptr;
      throw;
    }
    running = nullptr;
  }
}

Extent thread_index() {
  const Block& b = block();
  const Extent e = b.block;
  return {b.current % e.x, b.current / e.x % e.y, b.current / e.x / e.y};
}

Extent block_index() { return block().index; }
Extent block_extent() { return block().block; }
Extent grid_extent() { return block().grid; }

void fail(const std::string& what) {
  const tsan::Quiet quiet;
  Block& b = block();
  b.failure = name_of(b, b.current) + ": " + what;
  throw Cancelled{};
}

void block_barrier(std::source_location place) {
  Block& b = block();
  Rendezvous& barrier = b.barrier;
  char* synchronization = nullptr;
  {
    const tsan::Quiet quiet;
    synchronization = &barrier.synchronization[barrier.passed % 2];
  }
  tsan::release(synchronization);
  {
    const tsan::Quiet quiet;
    const Operation operation{"__syncthreads", place.file_name(), place.line()};
    if (barrier.waiting.empty()) barrier.operation = operation;
    if (barrier.operation != operation) {
      fail("reaches " + text_of(operation) + " while thread " +
           std::to_string(barrier.waiting.front()) + " waits in " + text_of(barrier.operation));
    }
    barrier.waiting.push_back(b.current);
    b.threads[b.current].waits_in = operation;
    if (barrier.waiting.size() == b.threads.size()) {
      ++barrier.passed;
      make_ready(b, barrier.waiting);
    }
    let_others_run(b);
  }
  tsan::acquire(synchronization);
}

void warp_operation(const char* name, std::source_location place, void* argument,
                    void (*combine)(const WarpArguments&)) {
  const tsan::Quiet quiet;
  Block& b = block();
  Rendezvous& warp = b.warps[b.current / kWarp];
  const Operation operation{name, place.file_name(), place.line()};
  if (warp.waiting.empty()) warp.operation = operation;
  if (warp.operation != operation) {
    fail("reaches " + text_of(operation) + " while thread " + std::to_string(warp.waiting.front()) +
         " of its warp waits in " + text_of(warp.operation));
  }
  const unsigned first = b.current / kWarp * kWarp;
  if (first + kWarp > b.thread_count()) {
    fail("reaches " + text_of(operation) + " in a warp of " +
         std::to_string(b.thread_count() - first) + " threads (it takes all 32)");
  }
  warp.arguments.of_lane[b.current - first] = argument;
  warp.waiting.push_back(b.current);
  b.threads[b.current].waits_in = operation;
  if (warp.waiting.size() == kWarp) {
    combine(warp.arguments);
    make_ready(b, warp.waiting);
  }
  let_others_run(b);
}

std::byte* shared_base() { return block().shared_base; }
int64_t shared_bytes() { return block().shared_bytes; }

void check_written(const std::byte* first, int64_t bytes, std::source_location place) {
  const tsan::Quiet quiet;
  const Block& b = block();
  const int64_t offset = first - b.shared_base;
  if (offset < 0 || offset + bytes > b.shared_bytes) {
    fail("reads beyond its shared memory at " + std::string(place.file_name()) + ":" +
         std::to_string(place.line()));
  }
  for (int64_t i = offset; i < offset + bytes; ++i) {
    if (!b.written[static_cast<size_t>(i)]) {
      fail("reads byte " + std::to_string(i) + " of shared memory, which was never written, at " +
           place.file_name() + ":" + std::to_string(place.line()));
    }
  }
}

void mark_written(const std::byte* first, int64_t bytes) {
  const tsan::Quiet quiet;
  Block& b = block();
  const int64_t offset = first - b.shared_base;
  if (offset < 0 || offset + bytes > b.shared_bytes) fail("writes beyond its shared memory");
  std::fill_n(b.written.begin() + offset, bytes, true);
}

}  // namespace normlab::emulator
