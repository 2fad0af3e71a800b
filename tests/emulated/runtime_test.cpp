// The emulated CUDA runtime: what memory is whose, what a stream does when, what goes wrong how.
#include "tests/emulated/runtime.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <vector>

#include "catch.h"
#include "kernels/cuda/launch.h"
#include "tests/emulator/library/device.h"

namespace normlab {
namespace {

using emulator::StreamOrder;

const std::vector<StreamOrder> kOrders = {StreamOrder::shuffled, StreamOrder::oldest_first,
                                          StreamOrder::newest_first};

// One number.
__global__ void set_kernel(float* target, float value) { *target = value; }
__global__ void copy_kernel(float* target, const float* source) { *target = *source; }
// AddressSanitizer would stop it first.
__attribute__((no_sanitize("address"))) __global__ void write_kernel(float* target, int64_t index) {
  target[index] = 1;
}
__global__ void fail_kernel(float*) { emulator::fail("does not like this"); }

LaunchShape one_thread(const TestStream& stream) { return {dim3(), dim3(), 0, stream.handle}; }

// Whether the host can read a byte: the kernel answers, and nobody crashes.
bool host_can_read(const void* data) {
  std::array<int, 2> ends{};
  REQUIRE(pipe(ends.data()) == 0);
  const bool read = write(ends[1], data, 1) == 1;
  const bool refused = !read && errno == EFAULT;
  close(ends[0]);
  close(ends[1]);
  CHECK(read != refused);
  return read;
}

std::string failure_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const emulator::Failure& failure) {
    return failure.what();
  }
  return "";
}

void check_contains(const std::string& text, const std::string& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("emulated memory: begins as NaN, 256-byte aligned, out of the host's reach") {
  TestStream stream;
  TestMemory memory(40);
  CHECK(reinterpret_cast<uintptr_t>(memory.data) % 256 == 0);
  CHECK_FALSE(host_can_read(memory.data));
  std::vector<float> found(10);
  CHECK(cudaMemcpyAsync(found.data(), memory.data, 40, cudaMemcpyDeviceToHost, stream.handle) ==
        cudaSuccess);
  CHECK(cudaStreamSynchronize(stream.handle) == cudaSuccess);
  for (const float number : found) CHECK(number != number);
  CHECK_FALSE(host_can_read(memory.data));
  TestPinned pinned(4);
  CHECK(host_can_read(pinned.data));
}

TEST_CASE("emulated memory: is finite, and counted") {
  size_t before = 0, during = 0, after = 0, total = 0;
  CHECK(cudaMemGetInfo(&before, &total) == cudaSuccess);
  {
    TestMemory memory(1000);
    CHECK(cudaMemGetInfo(&during, &total) == cudaSuccess);
  }
  CHECK(cudaMemGetInfo(&after, &total) == cudaSuccess);
  CHECK(during + 1000 == before);
  CHECK(after == before);
  void* data = &total;
  CHECK(cudaMalloc(&data, total + 1) == cudaErrorMemoryAllocation);
  CHECK(data == nullptr);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(std::string(cudaGetErrorString(cudaErrorMemoryAllocation)) == "out of memory");
}

TEST_CASE("emulated memory: what was not allocated, or not so, cannot be freed") {
  void* data = nullptr;
  REQUIRE(cudaMalloc(&data, 16) == cudaSuccess);
  CHECK(cudaFree(static_cast<std::byte*>(data) + 4) == cudaErrorInvalidValue);
  CHECK(cudaFreeHost(data) == cudaErrorInvalidValue);
  CHECK(cudaFree(data) == cudaSuccess);
  CHECK(cudaFree(data) == cudaErrorInvalidValue);
  CHECK(cudaFree(nullptr) == cudaSuccess);
  float on_the_host = 0;
  CHECK(cudaFree(&on_the_host) == cudaErrorInvalidValue);
  TestPinned pinned(16);
  CHECK(cudaFree(pinned.data) == cudaErrorInvalidValue);
}

TEST_CASE("emulated memory: is freed after the work that uses it") {
  TestStream stream;
  TestPinned result(4);
  {
    TestMemory memory(4);
    launch("set", set_kernel, one_thread(stream), memory.floats(), 3.0f);
    cudaMemcpyAsync(result.data, memory.data, 4, cudaMemcpyDeviceToHost, stream.handle);
  }
  CHECK(*result.floats() == 3);
}

TEST_CASE("emulated copies: each side must be where the kind says, and have the room") {
  TestStream stream;
  TestMemory memory(16), other(16);
  TestPinned pinned(16);
  std::array<float, 8> host{};
  const auto copy = [&](void* target, const void* source, size_t bytes, cudaMemcpyKind kind) {
    return cudaMemcpyAsync(target, source, bytes, kind, stream.handle);
  };
  CHECK(copy(memory.data, host.data(), 16, cudaMemcpyHostToDevice) == cudaSuccess);
  CHECK(copy(memory.data, host.data(), 17, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(copy(host.data(), host.data(), 16, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(copy(memory.data, other.data, 16, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(copy(other.data, pinned.data, 17, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(copy(memory.data, pinned.data, 16, cudaMemcpyHostToDevice) == cudaSuccess);
  CHECK(copy(memory.data, pinned.floats() + 2, 12, cudaMemcpyHostToDevice) ==
        cudaErrorInvalidValue);
  CHECK(copy(memory.floats() + 2, host.data(), 8, cudaMemcpyHostToDevice) == cudaSuccess);
  CHECK(copy(memory.floats() + 2, host.data(), 12, cudaMemcpyHostToDevice) ==
        cudaErrorInvalidValue);
  CHECK(copy(host.data(), memory.data, 16, cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(copy(memory.data, host.data(), 16, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(copy(host.data(), memory.data, 17, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(copy(other.data, memory.data, 16, cudaMemcpyDeviceToDevice) == cudaSuccess);
  CHECK(copy(other.data, memory.data, 17, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
  CHECK(copy(other.data, host.data(), 16, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemsetAsync(host.data(), 0, 4, stream.handle) == cudaErrorInvalidValue);
  CHECK(cudaMemset2DAsync(memory.data, 8, 0, 4, 2, stream.handle) == cudaSuccess);
  CHECK(cudaMemset2DAsync(memory.data, 12, 0, 5, 2, stream.handle) == cudaErrorInvalidValue);
  const auto lines = [&](size_t pitch, size_t width, size_t height) {
    return cudaMemcpy2DAsync(other.data, pitch, memory.data, pitch, width, height,
                             cudaMemcpyDeviceToDevice, stream.handle);
  };
  CHECK(lines(8, 8, 2) == cudaSuccess);
  CHECK(lines(8, 12, 1) == cudaErrorInvalidValue);
  CHECK(lines(8, 8, 3) == cudaErrorInvalidValue);
  CHECK(cudaMemsetAsync(memory.data, 0, 4, nullptr) == cudaErrorInvalidResourceHandle);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

TEST_CASE("emulated copies: pinned memory is read late, other memory at once") {
  TestStream stream;
  TestMemory from_pinned(4), from_host(4);
  TestPinned pinned(4), results(8);
  float host = 1;
  *pinned.floats() = 1;
  cudaMemcpyAsync(from_pinned.data, pinned.data, 4, cudaMemcpyHostToDevice, stream.handle);
  cudaMemcpyAsync(from_host.data, &host, 4, cudaMemcpyHostToDevice, stream.handle);
  *pinned.floats() = host = 2;
  cudaMemcpyAsync(results.floats(), from_pinned.data, 4, cudaMemcpyDeviceToHost, stream.handle);
  cudaMemcpyAsync(results.floats() + 1, from_host.data, 4, cudaMemcpyDeviceToHost, stream.handle);
  *results.floats() = 7;
  CHECK(*results.floats() == 7);
  CHECK(cudaStreamSynchronize(stream.handle) == cudaSuccess);
  CHECK(results.floats()[0] == 2);
  CHECK(results.floats()[1] == 1);
}

TEST_CASE("emulated streams: without an event some order reads what is not there yet") {
  int stale = 0, right = 0;
  for (const StreamOrder order : kOrders) {
    for (uint64_t seed = 0; seed < 8; ++seed) {
      const TestStreamOrder chosen({order, seed});
      TestStream writer, reader;
      TestMemory memory(4), copy(4);
      TestPinned result(4);
      launch("set", set_kernel, one_thread(writer), memory.floats(), 3.0f);
      launch("copy", copy_kernel, one_thread(reader), copy.floats(), memory.const_floats());
      cudaMemcpyAsync(result.data, copy.data, 4, cudaMemcpyDeviceToHost, reader.handle);
      CHECK(cudaDeviceSynchronize() == cudaSuccess);
      ++(*result.floats() == 3 ? right : stale);
      // The order of creation decides where no seed does.
      if (order == StreamOrder::oldest_first) CHECK(*result.floats() == 3);
      if (order == StreamOrder::newest_first) CHECK(*result.floats() != 3);
    }
  }
  CHECK(stale > 8);
  CHECK(right > 8);
}

TEST_CASE("emulated streams: what waits for an event sees all that was before its record") {
  for (const StreamOrder order : kOrders) {
    for (uint64_t seed = 0; seed < 8; ++seed) {
      const TestStreamOrder chosen({order, seed});
      TestStream writer, reader;
      TestEvent event;
      TestMemory memory(4), copy(4);
      TestPinned result(4);
      launch("set", set_kernel, one_thread(writer), memory.floats(), 3.0f);
      CHECK(cudaEventRecord(event.handle, writer.handle) == cudaSuccess);
      CHECK(cudaStreamWaitEvent(reader.handle, event.handle, 0) == cudaSuccess);
      launch("copy", copy_kernel, one_thread(reader), copy.floats(), memory.const_floats());
      cudaMemcpyAsync(result.data, copy.data, 4, cudaMemcpyDeviceToHost, reader.handle);
      CHECK(cudaStreamSynchronize(reader.handle) == cudaSuccess);
      CHECK(*result.floats() == 3);
    }
  }
}

TEST_CASE("emulated events: a wait is for the record that was the last when it was asked for") {
  // The reader goes first wherever it can.
  const TestStreamOrder chosen({StreamOrder::newest_first, 0});
  TestStream writer, reader;
  TestEvent event, other;
  TestMemory memory(4);
  TestPinned results(16);
  const auto write_and_record = [&](float value, const TestEvent& recorded) {
    launch("set", set_kernel, one_thread(writer), memory.floats(), value);
    CHECK(cudaEventRecord(recorded.handle, writer.handle) == cudaSuccess);
  };
  const auto wait_and_read = [&](int64_t place) {
    CHECK(cudaStreamWaitEvent(reader.handle, event.handle, 0) == cudaSuccess);
    cudaMemcpyAsync(results.floats() + place, memory.data, 4, cudaMemcpyDeviceToHost,
                    reader.handle);
  };
  wait_and_read(0);  // before any record
  write_and_record(1, event);
  write_and_record(2, other);
  wait_and_read(1);
  write_and_record(3, event);
  write_and_record(4, other);
  wait_and_read(2);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(results.floats()[0] != results.floats()[0]);
  CHECK(results.floats()[1] == 1);
  CHECK(results.floats()[2] == 3);
}

TEST_CASE("emulated events: the host waits for a record and for no more than it must") {
  const TestStreamOrder chosen({StreamOrder::oldest_first, 0});
  TestStream stream;
  TestEvent event;
  TestMemory memory(4);
  TestPinned results(8);
  results.floats()[0] = results.floats()[1] = 0;
  CHECK(cudaEventSynchronize(event.handle) == cudaSuccess);
  launch("set", set_kernel, one_thread(stream), memory.floats(), 1.0f);
  cudaMemcpyAsync(results.floats(), memory.data, 4, cudaMemcpyDeviceToHost, stream.handle);
  CHECK(cudaEventRecord(event.handle, stream.handle) == cudaSuccess);
  cudaMemcpyAsync(results.floats() + 1, memory.data, 4, cudaMemcpyDeviceToHost, stream.handle);
  CHECK(results.floats()[0] == 0);
  CHECK(cudaEventSynchronize(event.handle) == cudaSuccess);
  CHECK(results.floats()[0] == 1);
  CHECK(results.floats()[1] == 0);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(results.floats()[1] == 1);
}

TEST_CASE("emulated events: the device works on while it is asked for an event") {
  TestStream stream;
  TestEvent event;
  TestMemory memory(4);
  CHECK(cudaEventQuery(event.handle) == cudaSuccess);
  for (int i = 0; i < 3; ++i) cudaMemsetAsync(memory.data, i, 4, stream.handle);
  CHECK(cudaEventRecord(event.handle, stream.handle) == cudaSuccess);
  for (int i = 0; i < 3; ++i) CHECK(cudaEventQuery(event.handle) == cudaErrorNotReady);
  CHECK(cudaEventQuery(event.handle) == cudaSuccess);
  CHECK(cudaGetLastError() == cudaErrorNotReady);
  CHECK(cudaEventQuery(nullptr) == cudaErrorInvalidResourceHandle);
}

TEST_CASE("emulated streams: work that another process holds up lets other streams go on") {
  for (const StreamOrder order : kOrders) {
    const TestStreamOrder chosen({order, 3});
    TestStream held_up, other;
    TestMemory memory(4);
    TestPinned results(8);
    int looks = 0;
    // The other process answers at the third look.
    emulator::device().enqueue_when([&] { return ++looks == 3; }, held_up.handle, "held up", [] {});
    cudaMemcpyAsync(results.floats(), memory.data, 4, cudaMemcpyDeviceToHost, held_up.handle);
    launch("set", set_kernel, one_thread(other), memory.floats(), 3.0f);
    CHECK(cudaStreamSynchronize(other.handle) == cudaSuccess);
    CHECK(looks < 3);
    CHECK(cudaStreamSynchronize(held_up.handle) == cudaSuccess);
    CHECK(looks == 3);
    CHECK(results.floats()[0] == 3);
  }
}

TEST_CASE("emulated streams: a stream that is destroyed still does its work") {
  TestMemory memory(4);
  TestPinned result(4);
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  cudaMemsetAsync(memory.data, 0, 4, stream);
  cudaMemcpyAsync(result.data, memory.data, 4, cudaMemcpyDeviceToHost, stream);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
  CHECK(cudaStreamDestroy(stream) == cudaErrorInvalidResourceHandle);
  CHECK(cudaStreamSynchronize(stream) == cudaErrorInvalidResourceHandle);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(*result.floats() == 0);
}

TEST_CASE("emulated kernels: memory that is not the device's is refused at the launch") {
  TestStream stream;
  TestMemory memory(4);
  TestPinned pinned(4);
  float host = 0;
  check_contains(failure_of([&] { launch("set", set_kernel, one_thread(stream), &host, 1.0f); }),
                 "kernel set: is given host memory");
  check_contains(
      failure_of([&] { launch("set", set_kernel, one_thread(stream), pinned.floats(), 1.0f); }),
      "kernel set: is given pinned host memory");
  struct Rows {
    float* data;
  };
  check_contains(failure_of([&] {
                   launch(
                       "rows", +[](Rows) {}, one_thread(stream), Rows{&host});
                 }),
                 "kernel rows: is given host memory");
  CHECK(failure_of([&] {
          launch("set", set_kernel, one_thread(stream), memory.floats(), 1.0f);
          launch(
              "rows", +[](Rows) {}, one_thread(stream), Rows{nullptr});
          cudaDeviceSynchronize();
        }).empty());
}

TEST_CASE("emulated kernels: a failure comes from the call that waits, and is over with it") {
  TestStream stream;
  TestMemory memory(4);
  launch("fail", fail_kernel, one_thread(stream), memory.floats());
  launch("set", set_kernel, one_thread(stream), memory.floats(), 1.0f);
  check_contains(failure_of([&] { cudaStreamSynchronize(stream.handle); }),
                 "kernel fail, block (0,0,0), thread 0: does not like this");
  CHECK_FALSE(host_can_read(memory.data));
  // What was behind it is forgotten.
  TestPinned result(4);
  cudaMemcpyAsync(result.data, memory.data, 4, cudaMemcpyDeviceToHost, stream.handle);
  CHECK(cudaStreamSynchronize(stream.handle) == cudaSuccess);
  CHECK(*result.floats() != 1);
}

TEST_CASE("emulated kernels: a write beyond the end is found, with the kernel's name") {
  TestStream stream;
  TestMemory memory(100);
  launch("beyond", write_kernel, one_thread(stream), memory.floats(), int64_t{25});
  check_contains(failure_of([&] { cudaStreamSynchronize(stream.handle); }),
                 "kernel beyond: writes beyond the end of an allocation of 100 bytes");
}

}  // namespace normlab
