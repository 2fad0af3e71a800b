// Fibers: several stacks on one thread of the host, with what the sanitizers want to know of them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace normlab::emulator {

// The memory of a stack, with a page below it that may not be touched: what overflows stops there.
class Stack {
 public:
  Stack() = default;
  // `number` tells stacks apart, whose tops else would share their place in the processor's caches.
  explicit Stack(unsigned number);
  ~Stack();
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  std::byte* bottom() const { return bottom_; }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* bottom_ = nullptr;
  size_t bytes_ = 0;
};

class Fiber {
 public:
  using Main = void (*)(void* argument);
  // The fiber that runs already.
  Fiber();
  // One that will run main(argument), which never returns.
  Fiber(Main main, void* argument, unsigned number);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

 private:
  friend void switch_fiber(Fiber& from, Fiber& to);
  static void enter(void* self);
  static void finish_switch(Fiber& arrived);

  void* place_ = nullptr;  // where it goes on
  void* tsan_fiber_ = nullptr;
  void* asan_fake_stack_ = nullptr;
  Fiber* came_from_ = nullptr;  // under AddressSanitizer
  Stack stack_;
  const void* stack_bottom_ = nullptr;
  size_t stack_bytes_ = 0;
  Main main_ = nullptr;
  void* argument_ = nullptr;
};

// Goes on in `to`; returns when somebody switches back to `from`.
void switch_fiber(Fiber& from, Fiber& to);

}  // namespace normlab::emulator
