#include <cstdint>

#include "tests/emulator/switch/stack_switch.h"

// The System V calling convention: a function leaves rbx, rbp and r12 to r15 as they were; all else
// the caller has saved. The place of a stack is its pointer, with those six and the address to go
// on at above it. (`ret`, no jump: the processor foresees where returns go, and the stack that goes
// on mostly returns through the same functions.)
asm(R"(
.text
.p2align 4
.globl normlab_emulator_switch_stack
.type normlab_emulator_switch_stack, @function
normlab_emulator_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size normlab_emulator_switch_stack, . - normlab_emulator_switch_stack

.globl normlab_emulator_begin_stack
.type normlab_emulator_begin_stack, @function
normlab_emulator_begin_stack:
  movq %r13, %rdi
  callq *%r12
  ud2
.size normlab_emulator_begin_stack, . - normlab_emulator_begin_stack
)");

extern "C" {
void normlab_emulator_switch_stack(void** from, void* to);
void normlab_emulator_begin_stack();
}

namespace normlab::emulator {
namespace {

// What the switch takes from a stack, from its pointer upwards.
struct Saved {
  uintptr_t r15, r14, r13, r12, rbx, rbp, go_on_at;
};

}  // namespace

void* prepare_stack(std::byte* bottom, size_t bytes, void (*main)(void*), void* argument) {
  // 16-byte aligned where begin_stack calls.
  const uintptr_t end = (reinterpret_cast<uintptr_t>(bottom) + bytes) / 16 * 16;
  auto* saved = reinterpret_cast<Saved*>(end - sizeof(Saved));
  *saved = {};
  saved->r12 = reinterpret_cast<uintptr_t>(main);
  saved->r13 = reinterpret_cast<uintptr_t>(argument);
  saved->go_on_at = reinterpret_cast<uintptr_t>(normlab_emulator_begin_stack);
  return saved;
}

void switch_stack(void** from, void* to) { normlab_emulator_switch_stack(from, to); }

}  // namespace normlab::emulator
