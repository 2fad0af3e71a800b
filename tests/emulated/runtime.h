// What tests of the emulated CUDA libraries hold: each object of CUDA's, for as long as it lives.
#pragma once

#include <cuda_runtime.h>

#include "catch.h"
#include "tests/emulator/library/device.h"

namespace normlab {

struct TestStream {
  TestStream() {
    REQUIRE(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking) == cudaSuccess);
  }
  ~TestStream() { cudaStreamDestroy(handle); }
  TestStream(const TestStream&) = delete;
  TestStream& operator=(const TestStream&) = delete;
  cudaStream_t handle = nullptr;
};

struct TestEvent {
  TestEvent() { REQUIRE(cudaEventCreateWithFlags(&handle, cudaEventDisableTiming) == cudaSuccess); }
  ~TestEvent() { cudaEventDestroy(handle); }
  TestEvent(const TestEvent&) = delete;
  TestEvent& operator=(const TestEvent&) = delete;
  cudaEvent_t handle = nullptr;
};

// Of the device.
struct TestMemory {
  explicit TestMemory(size_t bytes) { REQUIRE(cudaMalloc(&data, bytes) == cudaSuccess); }
  ~TestMemory() { cudaFree(data); }
  TestMemory(const TestMemory&) = delete;
  TestMemory& operator=(const TestMemory&) = delete;
  float* floats() const { return static_cast<float*>(data); }
  const float* const_floats() const { return static_cast<const float*>(data); }
  void* data = nullptr;
};

struct TestPinned {
  explicit TestPinned(size_t bytes) { REQUIRE(cudaMallocHost(&data, bytes) == cudaSuccess); }
  ~TestPinned() { cudaFreeHost(data); }
  TestPinned(const TestPinned&) = delete;
  TestPinned& operator=(const TestPinned&) = delete;
  float* floats() const { return static_cast<float*>(data); }
  void* data = nullptr;
};

// An order of streams, until the end of the scope.
struct TestStreamOrder {
  explicit TestStreamOrder(const emulator::StreamSettings& settings) {
    emulator::configure_streams(settings);
  }
  ~TestStreamOrder() { emulator::configure_streams({}); }
  TestStreamOrder(const TestStreamOrder&) = delete;
  TestStreamOrder& operator=(const TestStreamOrder&) = delete;
};

}  // namespace normlab
