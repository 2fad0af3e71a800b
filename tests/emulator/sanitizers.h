// What the sanitizers want to know of the emulator; nothing where a build has none. The emulator's
// own files are not instrumented for threads, so it is CMake that says which there are.
// ThreadSanitizer: each CUDA thread is a fiber, a barrier is a release and an acquire, and the
// emulator's own bookkeeping is not looked at. AddressSanitizer: which stack runs.
#pragma once

#include <cstddef>

namespace normlab::emulator::tsan {

#if defined(EMULATOR_UNDER_THREAD_SANITIZER)

extern "C" {
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void* __tsan_get_current_fiber();
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}

constexpr bool kPresent = true;
constexpr unsigned kNoSynchronization = 1;

inline void* create_fiber() { return __tsan_create_fiber(0); }
inline void destroy_fiber(void* fiber) { __tsan_destroy_fiber(fiber); }
inline void* current_fiber() { return __tsan_get_current_fiber(); }
inline void switch_to(void* fiber) { __tsan_switch_to_fiber(fiber, kNoSynchronization); }
inline void acquire(void* address) { __tsan_acquire(address); }
inline void release(void* address) { __tsan_release(address); }

inline void look_away() {
  AnnotateIgnoreReadsBegin("", 0);
  AnnotateIgnoreWritesBegin("", 0);
}
inline void look_again() {
  AnnotateIgnoreWritesEnd("", 0);
  AnnotateIgnoreReadsEnd("", 0);
}

#else

constexpr bool kPresent = false;
inline void* create_fiber() { return nullptr; }
inline void destroy_fiber(void*) {}
inline void* current_fiber() { return nullptr; }
inline void switch_to(void*) {}
inline void acquire(void*) {}
inline void release(void*) {}

inline void look_away() {}
inline void look_again() {}

#endif

// While it lives, ThreadSanitizer does not look.
class Quiet {
 public:
  Quiet() { look_away(); }
  ~Quiet() { look_again(); }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;
};

}  // namespace normlab::emulator::tsan

namespace normlab::emulator::asan {

#if defined(EMULATOR_UNDER_ADDRESS_SANITIZER)

extern "C" {
void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t bytes);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t* bytes);
}

constexpr bool kPresent = true;
inline void start_switch(void** fake_stack, const void* bottom, size_t bytes) {
  __sanitizer_start_switch_fiber(fake_stack, bottom, bytes);
}
inline void finish_switch(void* fake_stack, const void** bottom, size_t* bytes) {
  __sanitizer_finish_switch_fiber(fake_stack, bottom, bytes);
}

#else

constexpr bool kPresent = false;
inline void start_switch(void**, const void*, size_t) {}
inline void finish_switch(void*, const void**, size_t*) {}

#endif

}  // namespace normlab::emulator::asan
