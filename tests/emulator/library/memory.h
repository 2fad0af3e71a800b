// The emulated device's memory. Each allocation has pages of its own, that neither the host nor a
// kernel can touch, except while the device works; what lies around them nobody can touch ever.
#pragma once

#include <cstddef>
#include <map>
#include <string>

namespace normlab::emulator {

class DeviceMemory {
 public:
  explicit DeviceMemory(size_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // 256-byte aligned, filled with NaN; null where the device has not so much.
  std::byte* allocate(size_t bytes);
  // Whether `data` was what allocate() gave.
  bool release(const void* data);

  // Whether `bytes` from `data` lie in one allocation.
  bool contains(const void* data, size_t bytes) const;
  size_t capacity_bytes() const { return capacity_bytes_; }
  size_t free_bytes() const { return capacity_bytes_ - used_bytes_; }

  // The device works while one of these lives.
  class Access {
   public:
    explicit Access(DeviceMemory& memory);
    ~Access();
    Access(const Access&) = delete;
    Access& operator=(const Access&) = delete;

   private:
    DeviceMemory& memory_;
  };
  // Which allocation has been written to beyond its end, in its last 256 bytes; "" where none has.
  std::string overrun() const;

 private:
  // [guard | gap, data, slack | guard]: data ends within 256 bytes of the guard behind it.
  struct Allocation {
    std::byte* pages;  // with the guards
    size_t pages_bytes;
    size_t bytes;
    size_t slack_bytes;
  };
  void set_accessible(const Allocation& allocation, int protection) const;

  size_t capacity_bytes_;
  size_t used_bytes_ = 0;
  std::map<const std::byte*, Allocation> allocations_;
};

}  // namespace normlab::emulator
