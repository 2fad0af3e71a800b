// CUDA's runtime on the emulated device. What is quoted is the CUDA Runtime API manual, 13.0.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "tests/emulator/emulator.h"
#include "tests/emulator/library/device.h"

namespace {

using normlab::emulator::Device;
using normlab::emulator::device;

// Kept for cudaGetLastError.
cudaError_t& last_error() {
  static cudaError_t status = cudaSuccess;
  return status;
}

cudaError_t failed(cudaError_t status) { return last_error() = status; }

// Of a block, after the opt-in (CUDA programming guide, "Technical specifications per compute
// capability").
size_t shared_bytes_of(int architecture) {
  constexpr size_t kKib = 1024;
  if (architecture == 86) return 99 * kKib;
  return (architecture == 90 ? 227 : 163) * kKib;
}

bool in_device(const void* data, size_t bytes) { return device().memory().contains(data, bytes); }
// Not the device's, and whole where it is pinned.
bool in_host(const void* data, size_t bytes) {
  return !in_device(data, 0) && (!device().is_pinned(data, 0) || device().is_pinned(data, bytes));
}

// Bytes from the first to the last element of `height` lines.
size_t span(size_t pitch, size_t width, size_t height) {
  return height == 0 ? 0 : (height - 1) * pitch + width;
}

// Pinned memory is read when the stream comes to it. Of other memory a copy is taken ("If pageable
// memory must first be staged to pinned memory …").
void upload(void* target, const void* source, size_t bytes, cudaStream_t stream) {
  if (device().is_pinned(source, bytes)) {
    device().enqueue(stream, "upload", [=] { std::memcpy(target, source, bytes); });
    return;
  }
  const auto* first = static_cast<const std::byte*>(source);
  device().enqueue(stream, "upload", [=, staged = std::vector(first, first + bytes)] {
    std::memcpy(target, staged.data(), bytes);
  });
}

// To memory that is not pinned CUDA "might be synchronous with respect to host": here it is not.
void download(void* target, const void* source, size_t bytes, cudaStream_t stream) {
  device().enqueue(stream, "download", [=] { std::memcpy(target, source, bytes); });
}

}  // namespace

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int index) {
  return index == 0 ? cudaSuccess : failed(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int* index) {
  *index = 0;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  if (index != 0) return failed(cudaErrorInvalidDevice);
  const int architecture = normlab::emulator::settings().architecture;
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "emulated device (sm_%d)",
                architecture);
  properties->totalGlobalMem = device().memory().capacity_bytes();
  properties->sharedMemPerBlockOptin = shared_bytes_of(architecture);
  properties->major = architecture / 10;
  properties->minor = architecture % 10;
  // Few, so that grids that fill the device are small.
  properties->multiProcessorCount = 2;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t status = last_error();
  last_error() = cudaSuccess;
  return status;
}

const char* cudaGetErrorString(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorNotReady:
      return "device not ready";
  }
  return "unrecognized error code";
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  *pointer = device().memory().allocate(bytes);
  return *pointer == nullptr ? failed(cudaErrorMemoryAllocation) : cudaSuccess;
}

// "This API may perform implicit synchronization", and does.
cudaError_t cudaFree(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  device().synchronize();
  return device().memory().release(pointer) ? cudaSuccess : failed(cudaErrorInvalidValue);
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  *pointer = nullptr;
  if (bytes > device().memory().capacity_bytes()) return failed(cudaErrorMemoryAllocation);
  if (bytes > 0) *pointer = device().allocate_pinned(bytes);
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  device().synchronize();
  return device().release_pinned(pointer) ? cudaSuccess : failed(cudaErrorInvalidValue);
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  *free_bytes = device().memory().free_bytes();
  *total_bytes = device().memory().capacity_bytes();
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (!device().knows_stream(stream)) return failed(cudaErrorInvalidResourceHandle);
  switch (kind) {
    case cudaMemcpyHostToDevice:
      if (!in_device(target, bytes) || !in_host(source, bytes)) break;
      upload(target, source, bytes, stream);
      return cudaSuccess;
    case cudaMemcpyDeviceToHost:
      if (!in_host(target, bytes) || !in_device(source, bytes)) break;
      download(target, source, bytes, stream);
      return cudaSuccess;
    case cudaMemcpyDeviceToDevice:
      if (!in_device(target, bytes) || !in_device(source, bytes)) break;
      device().enqueue(stream, "copy", [=] { std::memcpy(target, source, bytes); });
      return cudaSuccess;
  }
  return failed(cudaErrorInvalidValue);
}

cudaError_t cudaMemcpy2DAsync(void* target, size_t target_pitch, const void* source,
                              size_t source_pitch, size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  if (!device().knows_stream(stream)) return failed(cudaErrorInvalidResourceHandle);
  // Only within the device: nobody copies lines from or to the host.
  if (kind != cudaMemcpyDeviceToDevice || width > target_pitch || width > source_pitch ||
      !in_device(target, span(target_pitch, width, height)) ||
      !in_device(source, span(source_pitch, width, height))) {
    return failed(cudaErrorInvalidValue);
  }
  device().enqueue(stream, "copy", [=] {
    for (size_t line = 0; line < height; ++line) {
      std::memcpy(static_cast<std::byte*>(target) + line * target_pitch,
                  static_cast<const std::byte*>(source) + line * source_pitch, width);
    }
  });
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* target, int value, size_t bytes, cudaStream_t stream) {
  return cudaMemset2DAsync(target, bytes, value, bytes, 1, stream);
}

cudaError_t cudaMemset2DAsync(void* target, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream) {
  if (!device().knows_stream(stream)) return failed(cudaErrorInvalidResourceHandle);
  if (width > pitch || !in_device(target, span(pitch, width, height))) {
    return failed(cudaErrorInvalidValue);
  }
  device().enqueue(stream, "fill", [=] {
    for (size_t line = 0; line < height; ++line) {
      std::memset(static_cast<std::byte*>(target) + line * pitch, value, width);
    }
  });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  *stream = nullptr;
  // A stream that waits for the default stream is a kind of its own, which nobody uses.
  if (flags != cudaStreamNonBlocking) return failed(cudaErrorInvalidValue);
  *stream = device().create_stream();
  return cudaSuccess;
}

// "In case the device is still doing work in the stream … the function will return immediately".
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return device().destroy_stream(stream) ? cudaSuccess : failed(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (!device().knows_stream(stream)) return failed(cudaErrorInvalidResourceHandle);
  device().synchronize(stream);
  return cudaSuccess;
}

// "Makes all future work submitted to stream wait for all work captured in event", by "the most
// recently captured state at the time of the API call"; before the first, "an event represents an
// empty set of work".
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  if (flags != 0) return failed(cudaErrorInvalidValue);
  if (!device().knows_stream(stream) || !device().knows_event(event)) {
    return failed(cudaErrorInvalidResourceHandle);
  }
  device().wait(stream, event);
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  device().synchronize();
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = nullptr;
  if (flags != cudaEventDisableTiming) return failed(cudaErrorInvalidValue);
  *event = device().create_event();
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return device().destroy_event(event) ? cudaSuccess : failed(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (!device().knows_stream(stream) || !device().knows_event(event)) {
    return failed(cudaErrorInvalidResourceHandle);
  }
  device().record(event, stream);
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (!device().knows_event(event)) return failed(cudaErrorInvalidResourceHandle);
  return device().query(event) ? cudaSuccess : failed(cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (!device().knows_event(event)) return failed(cudaErrorInvalidResourceHandle);
  device().synchronize(event);
  return cudaSuccess;
}
