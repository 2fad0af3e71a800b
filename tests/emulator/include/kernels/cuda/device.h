// The emulator's device: shadows kernels/cuda/device.h, verb by verb, and the parts of CUDA's own
// headers that kernels use. What a thread does to shared and global memory is done here, in the
// kernel's own file, so that the sanitizers see it as that thread's doing.
#pragma once

#include <math.h>

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <string>
#include <type_traits>

#include "kernels/bfloat16.h"
#include "tests/emulator/emulator.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

using dim3 = normlab::emulator::Extent;

// threadIdx and its like, as structs whose members ask who is running.
namespace normlab::emulator {

template <const Extent& (*extent)()>
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

// --- Warps

namespace emulator {

// What a lane brings to a shuffle, and takes from it.
template <typename T>
struct Shuffled {
  T value;
  int from;
  T result;
};

template <typename T>
T shuffle_from(const char* name, T value, int from, std::source_location place) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) >= 4, "CUDA shuffles 4 or 8 bytes");
  if (from < 0 || from >= kLanes) fail_lane(name, from, place);
  Shuffled<T> argument{value, from, {}};
  warp_operation(name, place, &argument, [](const WarpArguments& all) {
    for (void* lane : all.of_lane) {
      auto* mine = static_cast<Shuffled<T>*>(lane);
      mine->result = static_cast<Shuffled<T>*>(all.of_lane[mine->from])->value;
    }
  });
  return argument.result;
}

}  // namespace emulator

// The value of lane `lane ^ mask`.
template <typename T>
T shuffle_xor(T value, int mask, std::source_location place = std::source_location::current()) {
  return emulator::shuffle_from("shuffle_xor", value, emulator::lane_index() ^ mask, place);
}

// The value of lane `lane`.
template <typename T>
T shuffle(T value, int lane, std::source_location place = std::source_location::current()) {
  return emulator::shuffle_from("shuffle", value, lane, place);
}

// Whether `predicate` holds for any lane of the warp.
inline bool warp_any(bool predicate, std::source_location place = std::source_location::current()) {
  return emulator::ballot("warp_any", predicate, place) != 0;
}

// Bit i: whether `predicate` holds for lane i.
inline uint32_t warp_ballot(bool predicate,
                            std::source_location place = std::source_location::current()) {
  return emulator::ballot("warp_ballot", predicate, place);
}

// --- Barriers

// Waits for `threads` threads of the block, whole warps, at barrier `id`.
inline void named_barrier(int id, int threads,
                          std::source_location place = std::source_location::current()) {
  emulator::named_barrier(id, threads, place);
}

// --- Numbers

// 2^x; subnormal results are 0.
inline float exp2_approximate(float x) {
  const float y = exp2f(x);
  constexpr float kSmallestNormal = 0x1p-126f;
  return y < kSmallestNormal ? 0.0f : y;
}

// Two numbers rounded to bf16, `low` in the lower half.
inline uint32_t pack_bfloat16(float low, float high) {
  return round_to_bfloat16(low).bits | uint32_t{round_to_bfloat16(high).bits} << 16;
}

inline BFloat16 to_bfloat16(float x) { return round_to_bfloat16(x); }

// --- Shared memory

namespace emulator {

// An index, and where it is used: operator[] takes one argument only, so the place comes with it.
struct Index {
  template <typename Integer>
  requires std::is_convertible_v<Integer, int64_t> Index(
      Integer value, std::source_location place = std::source_location::current())
      : value(value), place(place) {}
  int64_t value;
  std::source_location place;
};

// What an array's element is to a kernel: reading and writing are seen. Access is how they are
// (may_read(data), may_write(data)).
template <typename T, typename Access>
class Element {
 public:
  Element(T* data, Access access) : data_(data), access_(access) {}
  Element(const Element&) = default;
  operator T() const {
    access_.may_read(data_);
    return *data_;
  }
  const Element& operator=(T value) const {
    access_.may_write(data_);
    *data_ = value;
    return *this;
  }
  const Element& operator=(const Element& other) const { return *this = static_cast<T>(other); }
  const Element& operator+=(T value) const { return *this = static_cast<T>(*this) + value; }
  const Element& operator-=(T value) const { return *this = static_cast<T>(*this) - value; }
  const Element& operator*=(T value) const { return *this = static_cast<T>(*this) * value; }

 private:
  T* data_;
  Access access_;
};

struct SharedAccess {
  std::source_location place;
  template <typename T>
  void may_read(const T* data) const {
    check_written(data, sizeof(T), place);
  }
  template <typename T>
  void may_write(const T* data) const {
    mark_written(data, sizeof(T), place);
  }
};

}  // namespace emulator

// A part of the block's shared memory. An index is checked against its size.
template <typename T>
class SharedArray {
 public:
  SharedArray(T* data, int64_t size) : data_(data), size_(size) {}
  emulator::Element<T, emulator::SharedAccess> operator[](emulator::Index index) const {
    return {place_of(index.value, 1, index.place), {index.place}};
  }
  // The part from element `first` on.
  SharedArray from(emulator::Index first) const {
    return {place_of(first.value, 0, first.place), size_ - first.value};
  }
  // `count` elements from `first` on, which are all there.
  T* place_of(int64_t first, int64_t count, std::source_location place) const {
    if (first < 0 || first + count > size_) {
      emulator::fail_index(first, count, size_, "shared memory", place);
    }
    return data_ + first;
  }

 private:
  T* data_;
  int64_t size_;
};

// Cuts the block's dynamic shared memory into arrays, each 16-byte aligned (the first 1024), in the
// order of the calls.
class SharedMemory {
 public:
  template <typename T>
  SharedArray<T> take(int64_t size, std::source_location place = std::source_location::current()) {
    std::byte* data = emulator::take_shared(used_bytes_, shared_array_bytes<T>(size), place);
    used_bytes_ += shared_array_bytes<T>(size);
    return {reinterpret_cast<T*>(data), size};
  }
  // What an array takes, for the launch.
  template <typename T>
  static constexpr int64_t shared_array_bytes(int64_t size) {
    return (size * static_cast<int64_t>(sizeof(T)) + 15) / 16 * 16;
  }

 private:
  int64_t used_bytes_ = 0;
};

namespace emulator {

struct ScratchAccess {
  const WrittenElements* written;
  int64_t index;
  std::source_location place;
  template <typename T>
  void may_read(const T*) const {
    written->check(index, place);
  }
  template <typename T>
  void may_write(const T*) const {
    written->mark(index);
  }
};

}  // namespace emulator

// Memory of the device that kernels hand numbers through. Whatever lay there before it was made on
// the host does not count as written; its copies, which kernels are given, know what each wrote.
template <typename T>
class Scratch {
 public:
  Scratch(T* data, int64_t size) : data_(data), size_(size), written_(size) {}
  emulator::Element<T, emulator::ScratchAccess> operator[](emulator::Index index) const {
    if (index.value < 0 || index.value >= size_) {
      emulator::fail_index(index.value, 1, size_, "scratch memory", index.place);
    }
    return {data_ + index.value, {&written_, index.value, index.place}};
  }
  int64_t size() const { return size_; }
  // For the emulator's launch.
  const T* data() const { return data_; }

 private:
  T* data_;
  int64_t size_;
  emulator::WrittenElements written_;
};

// --- Asynchronous copies

namespace emulator {

// 16 bytes, read and written by the running thread.
struct alignas(16) Chunk {
  std::array<uint32_t, 4> words;
};

}  // namespace emulator

// Copies 16 bytes from global to shared memory, or zeros where not `valid`. The copy may land at
// any time from now on until the wait: the emulator takes the bytes away now, and brings the new
// ones at the last moment.
template <typename T>
void cp_async_16(SharedArray<T> target, int64_t index, const T* source, bool valid = true,
                 std::source_location place = std::source_location::current()) {
  static_assert(16 % sizeof(T) == 0, "a copy is of whole elements");
  T* bytes = target.place_of(index, 16 / sizeof(T), place);
  emulator::begin_copy(bytes, source, valid ? 16 : 0, place);
  constexpr uint32_t kNan = 0xFFFFFFFFu;
  *reinterpret_cast<emulator::Chunk*>(bytes) = {{kNan, kNan, kNan, kNan}};
}

inline void cp_async_commit() { emulator::commit_copies(); }

// Waits until at most N of this thread's latest groups are pending.
template <int N>
void cp_async_wait() {
  static_assert(N >= 0);
  while (const emulator::Copy* copy = emulator::land_copy(N)) {
    *static_cast<emulator::Chunk*>(copy->target) =
        copy->source_bytes == 0 ? emulator::Chunk{}
                                : *static_cast<const emulator::Chunk*>(copy->source);
  }
}

// --- Tensor cores

namespace emulator {

// The running lane's row of 8 elements, which it reads itself.
inline MatrixRow matrix_row(SharedArray<BFloat16> array, int64_t index,
                            std::source_location place) {
  const BFloat16* first = array.place_of(index, 8, place);
  check_matrix_row(first, place);
  MatrixRow row;
  for (int i = 0; i < 8; ++i) row.elements[i] = first[i].bits;
  return row;
}

}  // namespace emulator

// Four 8×8 matrices of bf16. Lane l gives the place of row l%8 of matrix l/8, and receives of
// matrix i, in fragment[i], row l/4, columns 2·(l%4) and the next.
inline void ldmatrix_x4(uint32_t (&fragment)[4], SharedArray<BFloat16> array, int64_t index,
                        std::source_location place = std::source_location::current()) {
  emulator::load_matrices(fragment, emulator::matrix_row(array, index, place), place);
}

// The same, each matrix transposed on the way.
inline void ldmatrix_x4_transposed(uint32_t (&fragment)[4], SharedArray<BFloat16> array,
                                   int64_t index,
                                   std::source_location place = std::source_location::current()) {
  emulator::load_matrices_transposed(fragment, emulator::matrix_row(array, index, place), place);
}

// d (16,8) += a (16,16) · b (16,8), a and b in bf16, the fragments as in kernels/cuda/device.h. The
// sum is in float, over k in order: a GPU's order and rounding may differ.
inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                         std::source_location place = std::source_location::current()) {
  emulator::multiply_add(d, a, b0, b1, place);
}

}  // namespace normlab
