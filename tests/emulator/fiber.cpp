#include "tests/emulator/fiber.h"

#include <cstdint>
#include <stdexcept>

#include "tests/emulator/sanitizers.h"

namespace normlab::emulator {
namespace {

// Kernels keep tiles in "registers", which are this stack here; the sanitizers widen every frame.
constexpr size_t kStackBytes = 256 * 1024;

}  // namespace

Fiber::Fiber() : tsan_fiber_(tsan::current_fiber()) {}

Fiber::Fiber(Main main, void* argument)
    : stack_(new std::byte[kStackBytes]),
      stack_bottom_(stack_.get()),
      stack_bytes_(kStackBytes),
      main_(main),
      argument_(argument),
      tsan_fiber_(tsan::create_fiber()) {
  if (getcontext(&context_) != 0) throw std::runtime_error("getcontext failed");
  context_.uc_stack.ss_sp = stack_.get();
  context_.uc_stack.ss_size = kStackBytes;
  context_.uc_link = nullptr;
  // makecontext passes ints only.
  const auto self = reinterpret_cast<uintptr_t>(this);
  makecontext(&context_, reinterpret_cast<void (*)()>(enter), 2, static_cast<unsigned>(self >> 32),
              static_cast<unsigned>(self));
}

Fiber::~Fiber() {
  if (stack_ != nullptr) tsan::destroy_fiber(tsan_fiber_);
}

void Fiber::enter(unsigned high, unsigned low) {
  auto* self = reinterpret_cast<Fiber*>((uintptr_t{high} << 32) | low);
  finish_switch(*self);
  self->main_(self->argument_);
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
  to.came_from_ = &from;
  asan::start_switch(&from.asan_fake_stack_, to.stack_bottom_, to.stack_bytes_);
  tsan::switch_to(to.tsan_fiber_);
  swapcontext(&from.context_, &to.context_);
  Fiber::finish_switch(from);
}

}  // namespace normlab::emulator
