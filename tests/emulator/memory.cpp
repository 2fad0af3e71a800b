// What is known of shared and scratch memory: which of it was written, and what is on its way.
#include <cstring>

#include "tests/emulator/multiprocessor.h"
#include "tests/emulator/sanitizers.h"

namespace normlab::emulator {
namespace {

constexpr uint64_t kEveryByte = 0x0101010101010101u;

// Whether all of `bytes` (at most 8) states are `state`, of which another is allowed beside it.
uint64_t word_of(const ByteState* states, int64_t bytes) {
  uint64_t word = 0;
  std::memcpy(&word, states, static_cast<size_t>(bytes));
  return word;
}

int64_t offset_of(const Multiprocessor& m, const void* first) {
  return static_cast<const std::byte*>(first) - m.shared->bytes;
}

bool all_written(const ByteState* states, int64_t bytes) {
  for (; bytes > 8; bytes -= 8, states += 8) {
    if (word_of(states, 8) != kEveryByte) return false;
  }
  return word_of(states, bytes) == kEveryByte >> (64 - 8 * bytes);
}

bool any_in_flight(const ByteState* states, int64_t bytes) {
  for (; bytes > 8; bytes -= 8, states += 8) {
    if ((word_of(states, 8) & 2 * kEveryByte) != 0) return true;
  }
  return (word_of(states, bytes) & 2 * kEveryByte) != 0;
}

[[noreturn]] void fail_read(const Multiprocessor& m, int64_t offset, int64_t bytes,
                            std::source_location place) {
  int64_t byte = offset;
  while (byte + 1 < offset + bytes && m.states[static_cast<size_t>(byte)] == ByteState::written) {
    ++byte;
  }
  const bool in_flight = m.states[static_cast<size_t>(byte)] == ByteState::in_flight;
  fail("reads byte " + std::to_string(byte) + " of shared memory, " +
       (in_flight ? "to which an asynchronous copy is on its way" : "which was never written") +
       ", at " + text_of(place));
}

void set_states(Multiprocessor& m, const void* first, int64_t bytes, ByteState state) {
  std::memset(m.states.get() + offset_of(m, first), static_cast<int>(state),
              static_cast<size_t>(bytes));
}

bool aligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; }

}  // namespace

std::byte* take_shared(int64_t offset, int64_t bytes, std::source_location place) {
  Multiprocessor& m = running();
  if (bytes < 0 || offset + bytes > m.launch->shared_bytes) {
    fail("takes " + std::to_string(offset + bytes) + " bytes of shared memory at " +
         text_of(place) + ", but was launched with " + std::to_string(m.launch->shared_bytes));
  }
  return m.shared->bytes + offset;
}

void fail_index(int64_t first, int64_t count, int64_t size, const char* memory,
                std::source_location place) {
  const std::string elements =
      count > 1 ? "elements " + std::to_string(first) + " to " + std::to_string(first + count - 1)
                : "element " + std::to_string(first);
  fail("uses " + elements + " of " + std::to_string(size) + " in " + memory + " at " +
       text_of(place));
}

void check_written(const void* first, int64_t bytes, std::source_location place) {
  const Multiprocessor& m = running();
  const int64_t offset = offset_of(m, first);
  if (!all_written(m.states.get() + offset, bytes)) fail_read(m, offset, bytes, place);
}

void mark_written(const void* first, int64_t bytes, std::source_location place) {
  Multiprocessor& m = running();
  const int64_t offset = offset_of(m, first);
  if (any_in_flight(m.states.get() + offset, bytes)) {
    fail("writes byte " + std::to_string(offset) +
         " of shared memory, to which an asynchronous copy is on its way, at " + text_of(place));
  }
  set_states(m, first, bytes, ByteState::written);
}

void check_matrix_row(const void* first, std::source_location place) {
  if (!aligned(first))
    fail("gives ldmatrix a row that is not 16-byte aligned at " + text_of(place));
  check_written(first, 16, place);
}

void begin_copy(void* target, const void* source, int source_bytes, std::source_location place) {
  Multiprocessor& m = running();
  if (!aligned(target) || !aligned(source)) {
    fail(std::string("begins an asynchronous copy ") + (aligned(target) ? "from" : "to") +
         " an address that is not 16-byte aligned at " + text_of(place));
  }
  const int64_t offset = offset_of(m, target);
  if (any_in_flight(m.states.get() + offset, 16)) {
    fail("begins an asynchronous copy to byte " + std::to_string(offset) +
         " of shared memory, to which another is on its way, at " + text_of(place));
  }
  set_states(m, target, 16, ByteState::in_flight);
  Copies& copies = m.current->copies;
  copies.pending.push_back({{target, source, source_bytes}, copies.committed_groups + 1, place});
}

void commit_copies() { ++running().current->copies.committed_groups; }

const Copy* land_copy(int pending) {
  Multiprocessor& m = running();
  Copies& copies = m.current->copies;
  if (copies.landed == copies.pending.size() ||
      copies.pending[copies.landed].group > copies.committed_groups - pending) {
    copies.pending.erase(copies.pending.begin(),
                         copies.pending.begin() + static_cast<std::ptrdiff_t>(copies.landed));
    copies.landed = 0;
    return nullptr;
  }
  const Copy& copy = copies.pending[copies.landed++].copy;
  set_states(m, copy.target, 16, ByteState::written);
  return &copy;
}

struct WrittenElements::Record {
  explicit Record(int64_t elements)
      : bits(new uint64_t[static_cast<size_t>(elements / 64 + 1)]()) {}
  int64_t copies = 1;
  std::unique_ptr<uint64_t[]> bits;
};

WrittenElements::WrittenElements(int64_t elements) : record_(new Record(elements)) {}
WrittenElements::WrittenElements(const WrittenElements& other) : record_(other.record_) {
  ++record_->copies;
}
WrittenElements::~WrittenElements() {
  if (--record_->copies == 0) delete record_;
}

void WrittenElements::mark(int64_t element) const {
  record_->bits[static_cast<size_t>(element / 64)] |= uint64_t{1} << (element % 64);
}

void WrittenElements::check(int64_t element, std::source_location place) const {
  if ((record_->bits[static_cast<size_t>(element / 64)] >> (element % 64) & 1) == 0) {
    fail("reads element " + std::to_string(element) +
         " of scratch memory, which no kernel has written, at " + text_of(place));
  }
}

}  // namespace normlab::emulator
