#include "kernels/cuda/staging.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/cuda_ops.h"

namespace normlab {

Staging::Staging() {
  void* memory = nullptr;
  check_cuda(cudaMallocHost(&memory, parts_.size() * kPartBytes), "allocating pinned memory");
  memory_ = static_cast<std::byte*>(memory);
  for (size_t i = 0; i < parts_.size(); ++i) {
    parts_[i].data = memory_ + i * kPartBytes;
    check_cuda(cudaEventCreateWithFlags(&parts_[i].emptied, cudaEventDisableTiming),
               "creating an event");
  }
}

Staging::~Staging() {
  for (const Part& part : parts_) cudaEventDestroy(part.emptied);
  cudaFreeHost(memory_);
}

void Staging::upload(void* target, const void* source, size_t bytes, cudaStream_t stream) {
  constexpr size_t kAlignment = 256;
  for (size_t done = 0; done < bytes;) {
    if (used_bytes_ == kPartBytes) {
      part_ = (part_ + 1) % parts_.size();
      used_bytes_ = 0;
      check_cuda(cudaEventSynchronize(parts_[part_].emptied), "waiting for an upload");
    }
    const Part& part = parts_[part_];
    const size_t piece = std::min(bytes - done, kPartBytes - used_bytes_);
    std::byte* staged = part.data + used_bytes_;
    std::memcpy(staged, static_cast<const std::byte*>(source) + done, piece);
    check_cuda(cudaMemcpyAsync(static_cast<std::byte*>(target) + done, staged, piece,
                               cudaMemcpyHostToDevice, stream),
               "upload");
    check_cuda(cudaEventRecord(part.emptied, stream), "recording an event");
    used_bytes_ += (piece + kAlignment - 1) / kAlignment * kAlignment;
    done += piece;
  }
}

}  // namespace normlab
