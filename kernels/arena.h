// Arena: one allocation, cut into tensors; or, in a measuring pass, none at all.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/tensor.h"

namespace normlab {

// A model lays itself out twice with the same function: first in an Arena that only counts
// (tensors without data), then in one over memory of `peak_bytes`. Slices are 256-byte aligned and
// come in a stack's order: `release(mark)` gives back all that was taken since `mark()`.
class Arena {
 public:
  using Mark = int64_t;
  static constexpr int64_t kAlignmentBytes = 256;

  // A measuring arena.
  Arena() = default;
  // An arena over memory that outlives it. Throws when more than capacity_bytes are taken.
  Arena(std::byte* base, int64_t capacity_bytes) : base_(base), capacity_bytes_(capacity_bytes) {}

  bool measures() const { return base_ == nullptr; }
  // A contiguous tensor; its contents are whatever the memory held.
  Tensor take(DType dtype, Shape shape);
  Mark mark() const { return used_bytes_; }
  void release(Mark mark);
  int64_t used_bytes() const { return used_bytes_; }
  // The most that was in use at once.
  int64_t peak_bytes() const { return peak_bytes_; }

 private:
  std::byte* base_ = nullptr;
  int64_t capacity_bytes_ = 0;
  int64_t used_bytes_ = 0;
  int64_t peak_bytes_ = 0;
};

}  // namespace normlab
