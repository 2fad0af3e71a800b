// Tests of ranks with one emulated GPU each: the same case runs in every rank's process, and throws
// where something is not as it should be.
#pragma once

#include <nccl.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/communicator.h"
#include "kernels/bfloat16.h"
#include "tests/emulator/library/device.h"

namespace normlab::test {

struct Case {
  std::string name;
  std::function<void()> run;
};
std::vector<Case> verb_cases();
std::vector<Case> mistake_cases();

// Throws Error unless it holds.
void expect(bool holds, const std::string& what);
void expect_part(const std::string& text, const std::string& part);

// This process's rank, and how many there are.
int own_rank();
int all_ranks();
// Where all ranks meet, by MPI.
void meet();

// By MPI, as the program does it where there is MPI too.
void broadcast_by_mpi(std::span<std::byte> bytes);
std::unique_ptr<Communicator> nccl_communicator(double timeout_seconds = 30);

// A GPU with NCCL's communicator, in an order of streams. Made on all ranks at once.
struct Gpu {
  explicit Gpu(const emulator::StreamSettings& order = {}, double timeout_seconds = 30);
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  std::unique_ptr<Ops> ops;
  std::unique_ptr<Communicator> communicator;
  std::unique_ptr<Attachment> attachment;
};

// Numbers on a GPU.
template <typename T>
class Numbers {
 public:
  Numbers(Ops& ops, const std::vector<T>& values)
      : ops_(ops), memory_(ops.allocate(static_cast<int64_t>(values.size() * sizeof(T)))) {
    tensor = {memory_.data(), dtype_of<T>(), {1, static_cast<int64_t>(values.size())}};
    ops.upload(tensor, values.data());
  }
  std::vector<T> values() const {
    std::vector<T> found(static_cast<size_t>(tensor.elements()));
    ops_.download(found.data(), tensor);
    return found;
  }
  Tensor tensor;

 private:
  Ops& ops_;
  Memory memory_;
};

// Whole numbers, other ones on each rank, whose sums are exact.
template <typename T>
std::vector<T> numbers_of(int rank, int64_t count);
template <>
std::vector<float> numbers_of<float>(int rank, int64_t count);

}  // namespace normlab::test
