#include "tests/emulator/library/memory.h"

#include <sanitizer/asan_interface.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "tests/emulator/emulator.h"

namespace normlab::emulator {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kAlignment = 256;
constexpr int kNaN = 0xFF;  // four of them are one in float, two in bf16

constexpr size_t rounded_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

// AddressSanitizer hides the slack from others.
__attribute__((no_sanitize("address"))) bool untouched(const std::byte* first, size_t bytes) {
  bool same = true;
  for (size_t i = 0; i < bytes; ++i) same = same && first[i] == std::byte{kNaN};
  return same;
}

}  // namespace

DeviceMemory::~DeviceMemory() {
  while (!allocations_.empty()) release(allocations_.begin()->first);
}

std::byte* DeviceMemory::allocate(size_t bytes) {
  if (bytes > free_bytes()) return nullptr;
  const size_t room = rounded_up(bytes, kAlignment);
  const size_t pages_bytes = rounded_up(room, kPage) + 2 * kPage;
  void* pages =
      mmap(nullptr, pages_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) return nullptr;
  const Allocation allocation{static_cast<std::byte*>(pages), pages_bytes, bytes, room - bytes};
  std::byte* data = allocation.pages + pages_bytes - kPage - room;
  set_accessible(allocation, PROT_READ | PROT_WRITE);
  std::memset(data, kNaN, room);
  set_accessible(allocation, PROT_NONE);
  ASAN_POISON_MEMORY_REGION(allocation.pages, static_cast<size_t>(data - allocation.pages));
  ASAN_POISON_MEMORY_REGION(data + bytes, allocation.slack_bytes + kPage);
  used_bytes_ += bytes;
  allocations_.emplace(data, allocation);
  return data;
}

bool DeviceMemory::release(const void* data) {
  const auto found = allocations_.find(static_cast<const std::byte*>(data));
  if (found == allocations_.end()) return false;
  const Allocation& allocation = found->second;
  ASAN_UNPOISON_MEMORY_REGION(allocation.pages, allocation.pages_bytes);
  munmap(allocation.pages, allocation.pages_bytes);
  used_bytes_ -= allocation.bytes;
  allocations_.erase(found);
  return true;
}

bool DeviceMemory::contains(const void* data, size_t bytes) const {
  const auto* first = static_cast<const std::byte*>(data);
  const auto after = allocations_.upper_bound(first);
  if (after == allocations_.begin()) return false;
  const auto& [begin, allocation] = *std::prev(after);
  const auto offset = static_cast<size_t>(first - begin);
  return offset <= allocation.bytes && bytes <= allocation.bytes - offset;
}

void DeviceMemory::set_accessible(const Allocation& allocation, int protection) const {
  if (mprotect(allocation.pages + kPage, allocation.pages_bytes - 2 * kPage, protection) != 0) {
    throw Failure("the emulated device's memory cannot be protected");
  }
}

std::string DeviceMemory::overrun() const {
  for (const auto& [data, allocation] : allocations_) {
    if (!untouched(data + allocation.bytes, allocation.slack_bytes)) {
      return "writes beyond the end of an allocation of " + std::to_string(allocation.bytes) +
             " bytes";
    }
  }
  return "";
}

DeviceMemory::Access::Access(DeviceMemory& memory) : memory_(memory) {
  for (const auto& [data, allocation] : memory_.allocations_) {
    memory_.set_accessible(allocation, PROT_READ | PROT_WRITE);
  }
}

DeviceMemory::Access::~Access() {
  for (const auto& [data, allocation] : memory_.allocations_) {
    memory_.set_accessible(allocation, PROT_NONE);
  }
}

}  // namespace normlab::emulator
