#include "tests/emulator/fiber.h"

#include <sys/mman.h>

#include <stdexcept>

#include "tests/emulator/sanitizers.h"
#include "tests/emulator/switch/stack_switch.h"

namespace normlab::emulator {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kGuardBytes = 16 * kPageBytes;  // also a page of systems with larger ones
// Kernels keep tiles in "registers", which are this stack here; the sanitizers widen every frame.
// A page more than a power of two, lest they share their places in the processor's caches.
constexpr size_t kStackBytes = 256 * 1024 + kPageBytes;

}  // namespace

Stack::Stack(unsigned number) {
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("no memory for a fiber's stack");
  bottom_ = static_cast<std::byte*>(memory) + kGuardBytes;
  if (mprotect(memory, kGuardBytes, PROT_NONE) != 0) {
    munmap(memory, kGuardBytes + kStackBytes);
    throw std::runtime_error("a fiber's stack cannot be guarded");
  }
  constexpr size_t kStepBytes = 5 * 64;
  bytes_ = kStackBytes - number * kStepBytes % kPageBytes;
}

Stack::~Stack() {
  if (bottom_ != nullptr) munmap(bottom_ - kGuardBytes, kGuardBytes + kStackBytes);
}

Fiber::Fiber() : tsan_fiber_(tsan::current_fiber()) {}

Fiber::Fiber(Main main, void* argument, unsigned number)
    : tsan_fiber_(tsan::create_fiber()),
      stack_(number),
      stack_bottom_(stack_.bottom()),
      stack_bytes_(stack_.bytes()),
      main_(main),
      argument_(argument) {
  place_ = prepare_stack(stack_.bottom(), stack_.bytes(), enter, this);
}

Fiber::~Fiber() {
  if (stack_.bottom() != nullptr) tsan::destroy_fiber(tsan_fiber_);
}

void Fiber::enter(void* self) {
  auto* fiber = static_cast<Fiber*>(self);
  finish_switch(*fiber);
  fiber->main_(fiber->argument_);
}

// On the stack of the fiber that goes on: where it came from is now known to AddressSanitizer.
void Fiber::finish_switch(Fiber& arrived) {
  Fiber* from = arrived.came_from_;
  const void* bottom = nullptr;
  size_t bytes = 0;
  asan::finish_switch(arrived.asan_fake_stack_, &bottom, &bytes);
  if (from != nullptr && from->stack_bottom_ == nullptr) {
    from->stack_bottom_ = bottom;
    from->stack_bytes_ = bytes;
  }
}

void switch_fiber(Fiber& from, Fiber& to) {
  if constexpr (asan::kPresent) to.came_from_ = &from;
  asan::start_switch(&from.asan_fake_stack_, to.stack_bottom_, to.stack_bytes_);
  tsan::switch_to(to.tsan_fiber_);
  switch_stack(&from.place_, to.place_);
  Fiber::finish_switch(from);
}

}  // namespace normlab::emulator
