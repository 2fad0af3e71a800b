// WatchingOps: another Ops, whose allocations are counted and begin as NaN.
#pragma once

#include <cstring>

#include "kernels/forwarding_ops.h"

namespace normlab {

class WatchingOps final : public ForwardingOps {
 public:
  using ForwardingOps::ForwardingOps;
  int64_t allocated_bytes() const { return allocated_bytes_; }

  Memory allocate(int64_t bytes) override {
    allocated_bytes_ += bytes;
    Memory memory = ops().allocate(bytes);
    // On the CPU alone: there the host may write it. All bits set is a NaN of every float type.
    std::memset(memory.data(), 0xFF, static_cast<size_t>(bytes));
    return memory;
  }

 private:
  int64_t allocated_bytes_ = 0;
};

}  // namespace normlab
