// What every verb of a communicator between GPUs gives, against sums that are known: the same
// checks on emulated GPUs (tests/emulator/nccl) and on real ones (main.cpp). All ranks call them
// together; they throw where something is not as it should be.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/communicator.h"
#include "kernels/bfloat16.h"

namespace normlab::test {

// Throws Error unless it holds.
void expect(bool holds, const std::string& what);
void expect_part(const std::string& text, const std::string& part);

// Sums, parts, moves, of every type and of many sizes.
void check_verbs(Communicator& communicator, Ops& ops);
// What a step does: the compute stream goes on while buckets are summed, uses the sums, and sends
// its parts back.
void check_step(Communicator& communicator, Ops& ops);
// Values of the host.
void check_host_verbs(Communicator& communicator);

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
