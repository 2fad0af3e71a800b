// Running a verb on a device and keeping what it gave. Included by the .cu files beside it, which
// nvcc compiles for a GPU and the C++ compiler for the emulator.
#pragma once

#include <cstring>
#include <span>
#include <type_traits>

#include "kernels/cuda/launch.h"
#include "kernels/random.h"
#include "tests/conformance/compare.h"

namespace normlab::conformance {

inline void require(cudaError_t status) {
  if (status != cudaSuccess) throw Error(std::string("CUDA: ") + cudaGetErrorString(status));
}

class Device {
 public:
  Device() { require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Device() { cudaStreamDestroy(stream_); }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  cudaStream_t stream() const { return stream_; }
  void finish() const { require(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

// Numbers on the device. Lives no longer than its device.
template <typename T>
class DeviceArray {
 public:
  DeviceArray(const Device& device, const std::vector<T>& values)
      : device_(device), size_(values.size()) {
    void* data = nullptr;
    require(cudaMalloc(&data, bytes()));
    data_ = static_cast<T*>(data);
    require(
        cudaMemcpyAsync(data_, values.data(), bytes(), cudaMemcpyHostToDevice, device.stream()));
    device.finish();
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  T* data() const { return data_; }
  size_t bytes() const { return size_ * sizeof(T); }
  // Waits for the device.
  std::vector<uint32_t> words() const {
    std::vector<uint32_t> words(bytes() / sizeof(uint32_t));
    require(
        cudaMemcpyAsync(words.data(), data_, bytes(), cudaMemcpyDeviceToHost, device_.stream()));
    device_.finish();
    return words;
  }

 private:
  const Device& device_;
  size_t size_ = 0;
  T* data_ = nullptr;
};

// `count` random words; `seed` names the case.
inline std::vector<uint32_t> random_words(size_t count, uint32_t seed) {
  std::vector<uint32_t> words;
  for (uint32_t i = 0; words.size() < count; ++i) {
    for (const uint32_t word : philox({i, 0, 0, 0}, seed)) words.push_back(word);
  }
  words.resize(count);
  return words;
}

// Random numbers in [low, high).
inline std::vector<float> random_floats(size_t count, uint32_t seed, float low, float high) {
  std::vector<float> values;
  for (const uint32_t word : random_words(count, seed)) {
    values.push_back(low + (high - low) * (static_cast<float>(word >> 8) / 16777216.0f));
  }
  return values;
}

// Each group of verbs appends its lines.
void dump_warps(const Device& device, std::vector<Line>& lines);
void dump_barriers(const Device& device, std::vector<Line>& lines);
void dump_numbers(const Device& device, std::vector<Line>& lines);
void dump_memory(const Device& device, std::vector<Line>& lines);
void dump_copies(const Device& device, std::vector<Line>& lines);
void dump_matrices(const Device& device, std::vector<Line>& lines);
void dump_products(const Device& device, std::vector<Line>& lines);

}  // namespace normlab::conformance
