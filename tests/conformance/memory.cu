// Shared memory, scratch memory and asynchronous copies.
#include "tests/conformance/dump.h"

namespace normlab::conformance {
namespace {

constexpr int kThreads = 32;

// Arrays of odd sizes side by side, all written before any is read, the last through its own part:
// one that overlapped another would show.
constexpr int kFirst = 7, kSecond = 35, kThird = 13;
constexpr int64_t kArraysBytes = SharedMemory::shared_array_bytes<float>(kFirst) +
                                 SharedMemory::shared_array_bytes<BFloat16>(kSecond) +
                                 SharedMemory::shared_array_bytes<uint32_t>(kThird);

__global__ void __launch_bounds__(kThreads)
    shared_arrays_kernel(float* y1, uint32_t* y2, uint32_t* y3, const uint32_t* x) {
  SharedMemory memory;
  const SharedArray<float> first = memory.take<float>(kFirst);
  const SharedArray<BFloat16> second = memory.take<BFloat16>(kSecond);
  const SharedArray<uint32_t> third = memory.take<uint32_t>(kThird);
  const SharedArray<uint32_t> tail = third.from(kThird - 3);
  for (int i = static_cast<int>(threadIdx.x); i < kSecond; i += kThreads) {
    if (i < kFirst) first[i] = static_cast<float>(x[i] >> 8);
    second[i] = BFloat16{static_cast<uint16_t>(x[i] >> 16)};
    if (i < kThird) third[i] = x[i];
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kSecond; i += kThreads) {
    if (i < kFirst) y1[i] = first[kFirst - 1 - i];
    const BFloat16 of_second = second[kSecond - 1 - i];
    y2[i] = of_second.bits;
    if (i < kThird - 3) y3[i] = third[i];
    if (i < 3) y3[kThird - 3 + i] = tail[2 - i];
  }
}

__global__ void __launch_bounds__(kThreads)
    scratch_write_kernel(Scratch<uint32_t> scratch, const uint32_t* x) {
  scratch[static_cast<int>(threadIdx.x) * 2 + 1] = x[threadIdx.x];
  scratch[static_cast<int>(threadIdx.x) * 2] = ~x[threadIdx.x];
}

__global__ void __launch_bounds__(kThreads)
    scratch_read_kernel(uint32_t* y, Scratch<uint32_t> scratch) {
  y[threadIdx.x] = scratch[2 * kThreads - 1 - static_cast<int>(threadIdx.x)];
}

// Two groups of copies, of 16 bytes a thread; the first is read while the second may be on its way.
// Odd bits of `valid` are of the first group.
template <typename T>
constexpr int kVector = 16 / static_cast<int>(sizeof(T));
template <typename T>
constexpr int kTile = kThreads* kVector<T>;

template <typename T>
__global__ void __launch_bounds__(kThreads) copies_kernel(T* y, const T* x, uint32_t valid) {
  SharedMemory memory;
  const SharedArray<T> first = memory.take<T>(kTile<T>), second = memory.take<T>(kTile<T>);
  const int thread = static_cast<int>(threadIdx.x), place = thread * kVector<T>;
  cp_async_16(first, place, x + kTile<T> - kVector<T> - place, (valid >> thread & 1) != 0);
  cp_async_commit();
  cp_async_16(second, place, x + kTile<T> + place, (valid >> (31 - thread) & 1) == 0);
  cp_async_commit();
  cp_async_wait<1>();
  __syncthreads();
  for (int i = thread; i < kTile<T>; i += kThreads) y[i] = first[i];
  cp_async_wait<0>();
  __syncthreads();
  for (int i = thread; i < kTile<T>; i += kThreads) y[kTile<T> + i] = second[i];
}

template <typename T>
void dump_copy(const Device& device, std::vector<Line>& lines, const std::string& type,
               const std::string& name, uint32_t valid) {
  std::vector<T> values(2 * kTile<T>);
  const std::vector<uint32_t> words = random_words(values.size() * sizeof(T) / 4, 10);
  std::memcpy(static_cast<void*>(values.data()), words.data(), values.size() * sizeof(T));
  const DeviceArray<T> x(device, values), y(device, std::vector<T>(values.size()));
  launch("cp_async_16", copies_kernel<T>,
         {1, kThreads, 2 * SharedMemory::shared_array_bytes<T>(kTile<T>), device.stream()},
         y.data(), x.data(), valid);
  lines.push_back({"cp_async_16+cp_async_commit+cp_async_wait", type + "," + name, Agreement::bits,
                   0, y.words()});
}

}  // namespace

void dump_memory(const Device& device, std::vector<Line>& lines) {
  const DeviceArray<uint32_t> x(device, random_words(kSecond, 8));
  const DeviceArray<float> y1(device, std::vector<float>(kFirst));
  const DeviceArray<uint32_t> y2(device, std::vector<uint32_t>(kSecond)),
      y3(device, std::vector<uint32_t>(kThird));
  launch("shared_arrays", shared_arrays_kernel, {1, kThreads, kArraysBytes, device.stream()},
         y1.data(), y2.data(), y3.data(), x.data());
  lines.push_back({"take", "float", Agreement::bits, 0, y1.words()});
  lines.push_back({"take", "bfloat16", Agreement::bits, 0, y2.words()});
  lines.push_back({"from", "uint32", Agreement::bits, 0, y3.words()});

  const LaunchShape shape{1, kThreads, 0, device.stream()};
  const DeviceArray<uint32_t> numbers(device, random_words(kThreads, 9)),
      memory(device, std::vector<uint32_t>(2 * kThreads)),
      y(device, std::vector<uint32_t>(kThreads));
  const Scratch<uint32_t> scratch(memory.data(), 2 * kThreads);
  launch("scratch_write", scratch_write_kernel, shape, scratch, numbers.data());
  launch("scratch_read", scratch_read_kernel, shape, y.data(), scratch);
  lines.push_back({"scratch", "uint32", Agreement::bits, 0, y.words()});
}

void dump_copies(const Device& device, std::vector<Line>& lines) {
  dump_copy<float>(device, lines, "float", "all_valid", 0xFFFFFFFFu);
  dump_copy<float>(device, lines, "float", "some_valid", random_words(1, 11)[0]);
  dump_copy<BFloat16>(device, lines, "bfloat16", "some_valid", random_words(1, 12)[0]);
}

}  // namespace normlab::conformance
