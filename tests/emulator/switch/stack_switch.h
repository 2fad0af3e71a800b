// Leaving one stack for another. CMake chooses the file that does it for the processor: x86_64.cpp
// takes a few instructions, ucontext.cpp runs everywhere and makes two system calls.
#pragma once

#include <cstddef>

namespace normlab::emulator {

// Prepares a stack of `bytes` from `bottom` on, so that the first switch to it calls
// main(argument), which must not return. Gives the place to switch to.
void* prepare_stack(std::byte* bottom, size_t bytes, void (*main)(void*), void* argument);

// Goes on at `to`. The place that is left is put into *from before; returns when somebody switches
// there.
void switch_stack(void** from, void* to);

}  // namespace normlab::emulator
