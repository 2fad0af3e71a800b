// Who runs: the threads of a block, one at a time, until all have ended or one has failed.
#include <algorithm>
#include <cstring>
#include <map>

#include "kernels/random.h"
#include "tests/emulator/multiprocessor.h"
#include "tests/emulator/sanitizers.h"

namespace normlab::emulator {
namespace {

// Thrown in a thread of a block that has failed, to unwind its stack.
struct Cancelled {};

// Nobody can go on: says who waits for what, one thread for each thing, and who has ended.
std::string deadlock(const Multiprocessor& m) {
  std::map<std::string, std::vector<unsigned>> waiting;
  unsigned first = kMostThreads;
  for (unsigned i = 0; i < m.launch->threads; ++i) {
    const Thread& thread = *m.threads[i];
    if (thread.ended) continue;
    waiting[text_of(thread.waits_in)].push_back(i);
    first = std::min(first, i);
  }
  std::string text = name_of(m, first) + ": waits for ever;";
  for (const auto& [operation, threads] : waiting) {
    text += " " + std::to_string(threads.size()) +
            " threads (first: " + std::to_string(threads.front()) + ") wait in " + operation + ";";
  }
  return text + " " + std::to_string(m.ended) + " threads have ended";
}

void set_failure(Multiprocessor& m, const std::string& text) {
  if (!m.failed) m.failure = text;
  m.failed = true;
}

// No thread may run: all have ended, one has failed, or they wait for ever.
[[gnu::noinline]] Fiber& back_to_host(Multiprocessor& m) {
  const tsan::Quiet quiet;
  if (m.ended < m.launch->threads && !m.failed) set_failure(m, deadlock(m));
  return *m.host;
}

// Who goes on after the running thread, which waits or has ended: another one, or the host.
Fiber& choose_next(Multiprocessor& m) {
  if (m.failed || m.ready.empty()) return back_to_host(m);
  m.current = m.threads[m.ready.pop_front()].get();
  m.current->started = true;
  return m.current->fiber;
}

[[noreturn, gnu::noinline]] void fail_pending(const Copies& copies) {
  fail("ends before its asynchronous copies have landed (the first was begun at " +
       text_of(copies.pending[copies.landed].place) + ")");
}

void run_body(Multiprocessor& m) {
  tsan::acquire(&m.launch->start);
  tsan::acquire(&m.block_ends[(m.blocks + 1) % 2]);
  const Thread& self = *m.current;
  try {
    (*m.launch->body)();
    if (self.copies.landed < self.copies.pending.size()) fail_pending(self.copies);
  } catch (const Cancelled&) {
  } catch (const std::exception& error) {
    const tsan::Quiet quiet;
    set_failure(m, name_of(m, self.number) + ": throws \"" + error.what() + "\"");
  }
  tsan::release(&m.block_ends[m.blocks % 2]);
}

// What every fiber does: for each block, its thread's part.
void thread_main(void* argument) {
  Thread& self = *static_cast<Thread*>(argument);
  Multiprocessor& m = self.multiprocessor;
  for (;;) {
    run_body(m);
    self.ended = true;
    ++m.ended;
    switch_fiber(self.fiber, choose_next(m));
  }
}

// As many threads as the block has, as new.
void prepare_threads(Multiprocessor& m) {
  const Extent extent = m.launch->block;
  while (m.threads.size() < m.launch->threads) {
    const auto number = static_cast<unsigned>(m.threads.size());
    m.threads.push_back(std::make_unique<Thread>(thread_main, m, number));
  }
  Extent index(0, 0, 0);
  for (unsigned i = 0; i < m.launch->threads; ++i) {
    Thread& thread = *m.threads[i];
    thread.index = index;
    thread.started = false;
    thread.ended = false;
    thread.copies.pending.clear();
    thread.copies.landed = 0;
    thread.copies.committed_groups = 0;
    if (++index.x == extent.x) {
      index.x = 0;
      if (++index.y == extent.y) {
        index.y = 0;
        ++index.z;
      }
    }
  }
}

void prepare(Multiprocessor& m) {
  prepare_threads(m);
  const auto bytes = static_cast<size_t>(m.launch->shared_bytes);
  std::memset(m.shared->bytes, 0xFF, bytes);
  static_assert(static_cast<int>(ByteState::never_written) == 0);
  std::fill_n(m.states.get(), (bytes + 7) / 8, 0);
  m.ended = 0;
  ++m.blocks;
  m.failed = false;
  m.ready.clear();
  m.barrier.arrived = 0;
  for (Warp& warp : m.warps) warp.meeting.arrived = 0;
  for (NamedBarrier& barrier : m.named) barrier.arrived = 0;
}

// Unwinds the stacks of a failed block's threads.
void cancel(Multiprocessor& m) {
  for (unsigned i = 0; i < m.launch->threads; ++i) {
    m.current = m.threads[i].get();
    if (m.current->started && !m.current->ended) switch_fiber(*m.host, m.current->fiber);
  }
}

}  // namespace

void run_block(Multiprocessor& m) {
  {
    const tsan::Quiet quiet;
    prepare(m);
  }
  wake(m, 0, m.launch->threads);
  switch_fiber(*m.host, choose_next(m));
  if (m.failed) cancel(m);
}

void wait_in(Multiprocessor& m, const Operation& operation) {
  Thread& self = *m.current;
  self.waits_in = operation;
  Fiber& next = choose_next(m);
  if (&next != &self.fiber) switch_fiber(self.fiber, next);
  if (m.failed) throw Cancelled{};
}

void wake(Multiprocessor& m, unsigned first, unsigned count) {
  Launch& launch = *m.launch;
  switch (launch.order) {
    case Order::forward:
      for (unsigned i = 0; i < count; ++i) m.ready.push_back(first + i);
      return;
    case Order::backward:
      for (unsigned i = count; i > 0; --i) m.ready.push_back(first + i - 1);
      return;
    case Order::shuffled: {
      unsigned shuffled[kMostThreads];
      for (unsigned i = 0; i < count; ++i) {
        const auto place = static_cast<unsigned>(mix(mix(launch.seed) ^ launch.draws++) % (i + 1));
        shuffled[i] = shuffled[place];
        shuffled[place] = first + i;
      }
      for (unsigned i = 0; i < count; ++i) m.ready.push_back(shuffled[i]);
      return;
    }
    case Order::run_ahead:
      for (unsigned i = count; i > 0; --i) m.ready.push_front(first + i - 1);
      return;
  }
}

void fail(const std::string& what) {
  const tsan::Quiet quiet;
  Multiprocessor& m = running();
  set_failure(m, name_of(m, m.current->number) + ": " + what);
  throw Cancelled{};
}

}  // namespace normlab::emulator
