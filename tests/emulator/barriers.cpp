// Where threads meet: barriers of the block, named ones, operations of a warp. What goes wrong is
// told by functions apart: the frames of those that everything goes through stay small.
#include "tests/emulator/multiprocessor.h"
#include "tests/emulator/sanitizers.h"

namespace normlab::emulator {
namespace {

[[noreturn, gnu::noinline]] void fail_elsewhere(const Rendezvous& meeting,
                                                const Operation& operation) {
  fail("reaches " + text_of(operation) + " while thread " + std::to_string(meeting.first) +
       " waits in " + text_of(meeting.operation));
}

[[noreturn, gnu::noinline]] void fail_partial_warp(const Multiprocessor& m,
                                                   const Operation& operation) {
  fail("reaches " + text_of(operation) + " in a warp of " +
       std::to_string(m.launch->threads % kWarp) + " threads (it takes all 32)");
}

[[noreturn, gnu::noinline]] void fail_barrier(int id, std::source_location place,
                                              const std::string& why) {
  fail("reaches barrier " + std::to_string(id) + " at " + text_of(place) + " " + why);
}

// The running thread is at `operation` with others; fails where they are elsewhere. Returns whether
// it is the last of `expected`.
bool arrive(const Multiprocessor& m, Rendezvous& meeting, const Operation& operation,
            unsigned expected) {
  if (meeting.arrived == 0) {
    meeting.operation = operation;
    meeting.first = m.current->number;
  } else if (!same(meeting.operation, operation)) {
    fail_elsewhere(meeting, operation);
  }
  if (++meeting.arrived < expected) return false;
  meeting.arrived = 0;
  return true;
}

// The running thread's warp, which must be whole.
Warp& whole_warp(Multiprocessor& m, const Operation& operation) {
  const unsigned number = m.current->number / kWarp;
  if (number >= m.launch->whole_warps) fail_partial_warp(m, operation);
  return m.warps[number];
}

void check_barrier(const Multiprocessor& m, int id, int threads, std::source_location place) {
  if (id < 1 || id >= static_cast<int>(kNamedBarriers)) {
    fail_barrier(id, place, "(named barriers are 1 to 15)");
  }
  const auto limit = static_cast<int>(m.launch->whole_warps * kWarp);
  if (threads <= 0 || threads % static_cast<int>(kWarp) != 0 || threads > limit) {
    fail_barrier(id, place,
                 "for " + std::to_string(threads) + " threads (it takes whole warps of the block)");
  }
}

// The running thread's warp has arrived as a whole.
void arrive_as_warp(Multiprocessor& m, int id, int threads, std::source_location place) {
  NamedBarrier& barrier = m.named[static_cast<size_t>(id)];
  if (barrier.arrived == 0) barrier.threads = threads;
  if (barrier.threads != threads) {
    fail_barrier(id, place,
                 "for " + std::to_string(threads) + " threads, while warp " +
                     std::to_string(barrier.warps[0]) + " waits there for " +
                     std::to_string(barrier.threads));
  }
  barrier.warps[barrier.arrived++] = m.current->number / kWarp;
  if (barrier.arrived * kWarp < static_cast<unsigned>(threads)) return;
  const unsigned arrived = barrier.arrived;
  barrier.arrived = 0;
  for (unsigned i = 0; i < arrived; ++i) tsan::acquire(&m.warps[barrier.warps[i]].meeting.gather);
  for (unsigned i = 0; i < arrived; ++i) tsan::release(&m.warps[barrier.warps[i]].meeting.scatter);
  // The order within a warp is the launch's; that of warps, the one they arrived in.
  for (unsigned i = 0; i < arrived; ++i) wake(m, barrier.warps[i] * kWarp, kWarp);
}

}  // namespace

void block_barrier(std::source_location place) {
  Multiprocessor& m = running();
  const Operation operation{"__syncthreads", place};
  Rendezvous& barrier = m.barrier;
  tsan::release(&barrier.gather);
  if (arrive(m, barrier, operation, m.launch->threads)) {
    tsan::acquire(&barrier.gather);
    tsan::release(&barrier.scatter);
    wake(m, 0, m.launch->threads);
  }
  wait_in(m, operation);
  tsan::acquire(&barrier.scatter);
}

void named_barrier(int id, int threads, std::source_location place) {
  Multiprocessor& m = running();
  const Operation operation{"named_barrier", place, id};
  check_barrier(m, id, threads, place);
  Warp& warp = whole_warp(m, operation);
  tsan::release(&warp.meeting.gather);
  if (arrive(m, warp.meeting, operation, kWarp)) arrive_as_warp(m, id, threads, place);
  wait_in(m, operation);
  tsan::acquire(&warp.meeting.scatter);
}

void warp_operation(const char* name, std::source_location place, void* argument,
                    void (*combine)(const WarpArguments&)) {
  Multiprocessor& m = running();
  const Operation operation{name, place};
  Warp& warp = whole_warp(m, operation);
  const unsigned number = m.current->number;
  warp.arguments.of_lane[number % kWarp] = argument;
  if (arrive(m, warp.meeting, operation, kWarp)) {
    // Registers of other lanes are no memory that threads race for.
    const tsan::Quiet quiet;
    combine(warp.arguments);
    wake(m, number / kWarp * kWarp, kWarp);
  }
  wait_in(m, operation);
}

void fail_lane(const char* name, int lane, std::source_location place) {
  fail(std::string(name) + " at " + text_of(place) + " asks for lane " + std::to_string(lane) +
       " of 32");
}

uint32_t ballot(const char* name, bool predicate, std::source_location place) {
  struct Vote {
    bool predicate;
    uint32_t all;
  } vote{predicate, 0};
  warp_operation(name, place, &vote, [](const WarpArguments& lanes) {
    uint32_t all = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      if (static_cast<const Vote*>(lanes.of_lane[lane])->predicate) all |= uint32_t{1} << lane;
    }
    for (void* lane : lanes.of_lane) static_cast<Vote*>(lane)->all = all;
  });
  return vote.all;
}

}  // namespace normlab::emulator
