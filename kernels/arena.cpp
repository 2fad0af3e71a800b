#include "kernels/arena.h"

#include <algorithm>

namespace normlab {

Tensor Arena::take(DType dtype, Shape shape) {
  int64_t bytes = shape.elements() * size_of(dtype);
  bytes = (bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
  check(measures() || used_bytes_ + bytes <= capacity_bytes_, "the arena is as large as measured");
  std::byte* data = measures() ? nullptr : base_ + used_bytes_;
  used_bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, used_bytes_);
  return {data, dtype, shape};
}

void Arena::release(Mark mark) {
  check(mark >= 0 && mark <= used_bytes_, "release of a mark of this arena");
  used_bytes_ = mark;
}

}  // namespace normlab
