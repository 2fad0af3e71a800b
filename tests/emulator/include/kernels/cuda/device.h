// The emulator's device: shadows kernels/cuda/device.h, verb by verb, and the parts of CUDA's own
// headers that kernels use.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

#include "tests/emulator/emulator.h"

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)

using dim3 = normlab::emulator::Extent;

// threadIdx and its like, as structs whose members ask who is running.
namespace normlab::emulator {

template <Extent (*extent)()>
struct BuiltIn {
  struct X {
    operator unsigned() const { return extent().x; }
  } x;
  struct Y {
    operator unsigned() const { return extent().y; }
  } y;
  struct Z {
    operator unsigned() const { return extent().z; }
  } z;
};

}  // namespace normlab::emulator

inline constexpr normlab::emulator::BuiltIn<normlab::emulator::thread_index> threadIdx{};
inline constexpr normlab::emulator::BuiltIn<normlab::emulator::block_index> blockIdx{};
inline constexpr normlab::emulator::BuiltIn<normlab::emulator::block_extent> blockDim{};
inline constexpr normlab::emulator::BuiltIn<normlab::emulator::grid_extent> gridDim{};

inline void __syncthreads(std::source_location place = std::source_location::current()) {
  normlab::emulator::block_barrier(place);
}

namespace normlab {

// The value of lane `lane ^ mask`; all lanes of the warp take part.
template <typename T>
T shuffle_xor(T value, int mask, std::source_location place = std::source_location::current()) {
  struct Argument {
    T value;
    int mask;
    T result;
  } argument{value, mask, {}};
  emulator::warp_operation("shuffle_xor", place, &argument, [](const emulator::WarpArguments& all) {
    for (int lane = 0; lane < emulator::kLanes; ++lane) {
      auto* mine = static_cast<Argument*>(all.of_lane[lane]);
      mine->result = static_cast<Argument*>(all.of_lane[lane ^ mine->mask])->value;
    }
  });
  return argument.result;
}

// Whether `predicate` holds for any lane of the warp.
inline bool warp_any(bool predicate, std::source_location place = std::source_location::current()) {
  struct Argument {
    bool predicate;
    bool result;
  } argument{predicate, false};
  emulator::warp_operation("warp_any", place, &argument, [](const emulator::WarpArguments& all) {
    bool any = false;
    for (int lane = 0; lane < emulator::kLanes; ++lane) {
      any = any || static_cast<Argument*>(all.of_lane[lane])->predicate;
    }
    for (int lane = 0; lane < emulator::kLanes; ++lane) {
      static_cast<Argument*>(all.of_lane[lane])->result = any;
    }
  });
  return argument.result;
}

// An element of shared memory: reading and writing are seen.
template <typename T>
class SharedElement {
 public:
  SharedElement(T* data, std::source_location place) : data_(data), place_(place) {}
  SharedElement(const SharedElement&) = default;
  operator T() const {
    emulator::check_written(reinterpret_cast<const std::byte*>(data_), sizeof(T), place_);
    return *data_;
  }
  SharedElement& operator=(T value) {
    emulator::mark_written(reinterpret_cast<const std::byte*>(data_), sizeof(T));
    *data_ = value;
    return *this;
  }
  SharedElement& operator=(const SharedElement& other) { return *this = static_cast<T>(other); }
  SharedElement& operator+=(T value) { return *this = static_cast<T>(*this) + value; }

 private:
  T* data_;
  std::source_location place_;
};

// A part of the block's shared memory. An index is checked against its size.
template <typename T>
class SharedArray {
 public:
  SharedArray(T* data, int64_t size) : data_(data), size_(size) {}
  // The place is that of the call: operator[] takes one argument only, so it comes with the index.
  struct Index {
    template <typename Integer>
    requires std::is_convertible_v<Integer, int64_t> Index(
        Integer value, std::source_location place = std::source_location::current())
        : value(value), place(place) {}
    int64_t value;
    std::source_location place;
  };
  SharedElement<T> operator[](Index index) const {
    if (index.value < 0 || index.value >= size_) {
      emulator::fail("uses element " + std::to_string(index.value) + " of " +
                     std::to_string(size_) + " in shared memory at " + index.place.file_name() +
                     ":" + std::to_string(index.place.line()));
    }
    return {data_ + index.value, index.place};
  }

 private:
  T* data_;
  int64_t size_;
};

// Cuts the block's dynamic shared memory into arrays, 16-byte aligned, in the order of the calls.
class SharedMemory {
 public:
  template <typename T>
  SharedArray<T> take(int64_t size) {
    const int64_t bytes = (size * static_cast<int64_t>(sizeof(T)) + 15) / 16 * 16;
    if (used_bytes_ + bytes > emulator::shared_bytes()) {
      emulator::fail("takes more shared memory than it was launched with");
    }
    auto* data = reinterpret_cast<T*>(emulator::shared_base() + used_bytes_);
    used_bytes_ += bytes;
    return {data, size};
  }

 private:
  int64_t used_bytes_ = 0;
};

}  // namespace normlab
