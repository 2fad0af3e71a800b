// What runs a block: the emulator's own state, for its .cpp files. All of it is kept from block to
// block and from launch to launch: fibers and stacks are dear to make.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include "tests/emulator/emulator.h"
#include "tests/emulator/fiber.h"

namespace normlab::emulator {

constexpr unsigned kWarp = kLanes;
constexpr unsigned kMostThreads = 1024;  // of a block
constexpr unsigned kMostWarps = kMostThreads / kWarp;
constexpr unsigned kNamedBarriers = 16;  // 0 is __syncthreads' own
constexpr int64_t kKib = 1024;
constexpr int64_t kMostSharedBytes = 227 * kKib;

// What threads meet in, or wait in: the name of the operation, where it is called, and which of
// several barriers it is (0: there is one only).
struct Operation {
  const char* name = nullptr;
  std::source_location place;
  int barrier = 0;
};
// Of one place in the source.
inline bool same(const Operation& a, const Operation& b) {
  const auto equal = [](const char* x, const char* y) { return x == y || std::strcmp(x, y) == 0; };
  return a.barrier == b.barrier && a.place.line() == b.place.line() &&
         a.place.column() == b.place.column() && equal(a.place.file_name(), b.place.file_name()) &&
         equal(a.name, b.name);
}
std::string text_of(const Operation& operation);  // "__syncthreads at norm.cu:12"
std::string text_of(std::source_location place);

// The asynchronous copies of a thread.
struct Copies {
  struct Pending {
    Copy copy;
    int64_t group;
    std::source_location place;
  };
  std::vector<Pending> pending;  // in the order in which they were begun
  size_t landed = 0;             // of `pending`: from the front
  int64_t committed_groups = 0;
};

struct Multiprocessor;

// A thread's place in its block, and the fiber that is that thread in block after block.
struct alignas(64) Thread {
  Thread(Fiber::Main main, Multiprocessor& multiprocessor, unsigned number)
      : fiber(main, this, number), multiprocessor(multiprocessor), number(number) {}
  Fiber fiber;
  Multiprocessor& multiprocessor;
  unsigned number = 0;
  bool started = false;
  bool ended = false;
  Operation waits_in;
  Extent index;
  Copies copies;
};

// Threads that meet in one operation, each once. What ThreadSanitizer knows threads by that hand
// each other what they did: all release `gather`, the last acquires it and releases `scatter`, all
// acquire that. (With one byte for both, a thread that is woken late would be ordered after what
// others did since.)
struct Rendezvous {
  Operation operation;  // of the first to arrive
  unsigned first = 0;   // who that was
  unsigned arrived = 0;
  char gather = 0, scatter = 0;
};

struct Warp {
  Rendezvous meeting;
  WarpArguments arguments{};
};

// Warps that wait at a named barrier.
struct NamedBarrier {
  int threads = 0;  // that it takes, as the first warp said
  std::array<unsigned, kMostWarps> warps{};
  unsigned arrived = 0;
};

// Threads that may run, each at most once: a ring.
class ReadyThreads {
 public:
  bool empty() const { return count_ == 0; }
  void clear() { count_ = 0; }
  void push_back(unsigned thread) { ring_[(front_ + count_++) % kMostThreads] = thread; }
  void push_front(unsigned thread) {
    front_ = (front_ + kMostThreads - 1) % kMostThreads;
    ring_[front_] = thread;
    ++count_;
  }
  unsigned pop_front() {
    const unsigned thread = ring_[front_];
    front_ = (front_ + 1) % kMostThreads;
    --count_;
    return thread;
  }

 private:
  unsigned ring_[kMostThreads] = {};
  unsigned front_ = 0;
  unsigned count_ = 0;
};

// What is known of a byte of shared memory.
enum class ByteState : uint8_t { never_written = 0, written = 1, in_flight = 2 };

struct Launch {
  const std::string* kernel = nullptr;
  const std::function<void()>* body = nullptr;
  Extent grid, block;
  unsigned threads = 0;  // of a block
  unsigned whole_warps = 0;
  int64_t shared_bytes = 0;
  Order order = Order::forward;
  uint64_t seed = 0;
  uint64_t draws = 0;  // of Order::shuffled, until now
  char start = 0;      // for ThreadSanitizer: the host releases it, all threads acquire it
};

// Runs one block at a time.
struct Multiprocessor {
  Launch* launch = nullptr;
  Extent index;  // of the block
  Fiber* host = nullptr;
  std::vector<std::unique_ptr<Thread>> threads;
  unsigned ended = 0;
  // For ThreadSanitizer: the threads of a block release one of these when they end, and those of
  // the next block here, which uses the same shared memory, acquire it when they start. In turn,
  // for threads of one block may end before others start.
  char block_ends[2] = {};
  unsigned blocks = 0;
  Thread* current = nullptr;
  ReadyThreads ready;
  Rendezvous barrier;
  std::array<Warp, kMostWarps> warps;
  std::array<NamedBarrier, kNamedBarriers> named;
  struct alignas(1024) Shared {
    std::byte bytes[kMostSharedBytes];
  };
  std::unique_ptr<Shared> shared = std::make_unique<Shared>();
  // ByteState of each byte, eight to a word.
  std::unique_ptr<uint64_t[]> states = std::make_unique<uint64_t[]>(kMostSharedBytes / 8);
  std::string failure;
  bool failed = false;
};

// The one that runs, or null: none does.
inline Multiprocessor*& running_multiprocessor() {
  static constinit Multiprocessor* running = nullptr;
  return running;
}
[[noreturn]] void fail_outside_kernel();
// Of the thread that runs. Throws Failure where none does.
inline Multiprocessor& running() {
  Multiprocessor* running = running_multiprocessor();
  if (running == nullptr) fail_outside_kernel();
  return *running;
}
// "kernel k, block (0,0,0), thread 5".
std::string name_of(const Multiprocessor& m, unsigned thread);
// Runs a block; returns when it has ended or failed.
void run_block(Multiprocessor& m);

// The running thread waits in `operation` until it is woken; others run.
void wait_in(Multiprocessor& m, const Operation& operation);
// Threads first to first + count may go on, in the launch's order.
void wake(Multiprocessor& m, unsigned first, unsigned count);

}  // namespace normlab::emulator
