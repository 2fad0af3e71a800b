// Fibers: several stacks on one thread of the host, with what the sanitizers want to know of them.
#pragma once

#include <ucontext.h>

#include <memory>

namespace normlab::emulator {

class Fiber {
 public:
  using Main = void (*)(void* argument);
  // The fiber that runs already.
  Fiber();
  // One that will run main(argument), which never returns.
  Fiber(Main main, void* argument);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

 private:
  friend void switch_fiber(Fiber& from, Fiber& to);
  static void enter(unsigned high, unsigned low);
  static void finish_switch(Fiber& arrived);

  ucontext_t context_{};
  std::unique_ptr<std::byte[]> stack_;
  const void* stack_bottom_ = nullptr;
  size_t stack_bytes_ = 0;
  Main main_ = nullptr;
  void* argument_ = nullptr;
  void* tsan_fiber_ = nullptr;
  void* asan_fake_stack_ = nullptr;
  Fiber* came_from_ = nullptr;
};

// Goes on in `to`; returns when somebody switches back to `from`.
void switch_fiber(Fiber& from, Fiber& to);

}  // namespace normlab::emulator
