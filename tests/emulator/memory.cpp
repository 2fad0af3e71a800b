// What is known of shared and scratch memory: which of it was written, and what is on its way.
#include <algorithm>

#include "tests/emulator/multiprocessor.h"
#include "tests/emulator/sanitizers.h"

namespace normlab::emulator {
namespace {

// A byte for each byte of shared memory, eight to a word. No memcpy and no memset: they are
// ThreadSanitizer's own, and it would take what they touch for the kernel's.
constexpr uint64_t kEveryByte = 0x0101010101010101u;
constexpr uint64_t kWritten = kEveryByte * static_cast<uint64_t>(ByteState::written);
constexpr uint64_t kInFlight = kEveryByte * static_cast<uint64_t>(ByteState::in_flight);

int64_t offset_of(const Multiprocessor& m, const void* first) {
  return static_cast<const std::byte*>(first) - m.shared->bytes;
}

// Calls body(word, mask) for the words that hold the states of `bytes` from `offset` on; the mask
// has all bits of theirs.
template <typename Body>
void for_each_word(const Multiprocessor& m, int64_t offset, int64_t bytes, const Body& body) {
  uint64_t* word = m.states.get() + offset / 8;
  for (int64_t first = offset % 8; bytes > 0; first = 0, ++word) {
    const int64_t here = std::min(8 - first, bytes);
    body(*word, ~uint64_t{0} >> (64 - 8 * here) << (8 * first));
    bytes -= here;
  }
}

bool all_written(const Multiprocessor& m, int64_t offset, int64_t bytes) {
  bool all = true;
  for_each_word(m, offset, bytes, [&](uint64_t word, uint64_t mask) {
    all = all && (word & mask) == (kWritten & mask);
  });
  return all;
}

bool any_in_flight(const Multiprocessor& m, int64_t offset, int64_t bytes) {
  uint64_t any = 0;
  for_each_word(m, offset, bytes,
                [&](uint64_t word, uint64_t mask) { any |= word & mask & kInFlight; });
  return any != 0;
}

void set_states(const Multiprocessor& m, int64_t offset, int64_t bytes, uint64_t state) {
  for_each_word(m, offset, bytes,
                [&](uint64_t& word, uint64_t mask) { word = (word & ~mask) | (state & mask); });
}

[[noreturn, gnu::noinline]] void fail_read(const Multiprocessor& m, int64_t offset, int64_t bytes,
                                           std::source_location place) {
  int64_t byte = offset;
  while (byte + 1 < offset + bytes && all_written(m, byte, 1)) ++byte;
  fail("reads byte " + std::to_string(byte) + " of shared memory, " +
       (any_in_flight(m, byte, 1) ? "to which an asynchronous copy is on its way"
                                  : "which was never written") +
       ", at " + text_of(place));
}

[[noreturn, gnu::noinline]] void fail_in_flight(const std::string& what, int64_t offset,
                                                const std::string& that,
                                                std::source_location place) {
  fail(what + " byte " + std::to_string(offset) + " of shared memory, to which " + that +
       " is on its way, at " + text_of(place));
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
  if (!all_written(m, offset, bytes)) fail_read(m, offset, bytes, place);
}

void mark_written(const void* first, int64_t bytes, std::source_location place) {
  const Multiprocessor& m = running();
  const int64_t offset = offset_of(m, first);
  if (any_in_flight(m, offset, bytes)) {
    fail_in_flight("writes", offset, "an asynchronous copy", place);
  }
  set_states(m, offset, bytes, kWritten);
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
  if (any_in_flight(m, offset, 16)) {
    fail_in_flight("begins an asynchronous copy to", offset, "another", place);
  }
  set_states(m, offset, 16, kInFlight);
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
  set_states(m, offset_of(m, copy.target), 16, kWritten);
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
