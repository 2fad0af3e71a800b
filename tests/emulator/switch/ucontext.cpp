#include <ucontext.h>

#include <cstdint>
#include <new>
#include <stdexcept>

#include "tests/emulator/switch/stack_switch.h"

namespace normlab::emulator {
namespace {

// What a stack begins with.
struct Beginning {
  ucontext_t context;
  void (*main)(void*);
  void* argument;
};

// makecontext passes ints only.
void begin(unsigned high, unsigned low) {
  auto* beginning = reinterpret_cast<Beginning*>((uintptr_t{high} << 32) | low);
  beginning->main(beginning->argument);
}

}  // namespace

void* prepare_stack(std::byte* bottom, size_t bytes, void (*main)(void*), void* argument) {
  const uintptr_t end = reinterpret_cast<uintptr_t>(bottom) + bytes - sizeof(Beginning);
  auto* beginning = new (reinterpret_cast<void*>(end / alignof(Beginning) * alignof(Beginning)))
      Beginning{{}, main, argument};
  if (getcontext(&beginning->context) != 0) throw std::runtime_error("getcontext failed");
  beginning->context.uc_stack.ss_sp = bottom;
  beginning->context.uc_stack.ss_size =
      static_cast<size_t>(reinterpret_cast<std::byte*>(beginning) - bottom);
  beginning->context.uc_link = nullptr;
  const auto address = reinterpret_cast<uintptr_t>(beginning);
  makecontext(&beginning->context, reinterpret_cast<void (*)()>(begin), 2,
              static_cast<unsigned>(address >> 32), static_cast<unsigned>(address));
  return &beginning->context;
}

void switch_stack(void** from, void* to) {
  ucontext_t left;
  *from = &left;
  swapcontext(&left, static_cast<ucontext_t*>(to));
}

}  // namespace normlab::emulator
