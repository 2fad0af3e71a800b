// Staging: the way of uploads from any memory of the host to the device.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstddef>

namespace normlab {

// A ring of pinned memory. A copy from memory that is not pinned reads it when the call returns on
// most systems, and later on some (CUDA Runtime API, "API synchronization behavior": it "might be
// synchronous"); a copy from here always may go on while the caller frees his.
class Staging {
 public:
  Staging();
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Enqueues the copy of `bytes` from the host to the device, always on the same stream. `source`
  // is read at once. Waits only where more than half the ring is still on its way.
  void upload(void* target, const void* source, size_t bytes, cudaStream_t stream);

 private:
  static constexpr size_t kPartBytes = size_t{2} << 20;
  // Recorded behind the last copy out of a part.
  struct Part {
    std::byte* data = nullptr;
    cudaEvent_t emptied = nullptr;
  };
  std::byte* memory_ = nullptr;
  std::array<Part, 2> parts_;
  size_t part_ = 0;
  size_t used_bytes_ = 0;  // of the current part
};

}  // namespace normlab
