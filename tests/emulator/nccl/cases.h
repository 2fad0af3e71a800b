// Tests of ranks with one emulated GPU each: the same case runs in every rank's process, and throws
// where something is not as it should be.
#pragma once

#include <nccl.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/emulator/library/device.h"
#include "tests/nccl/verbs.h"

namespace normlab::test {

struct Case {
  std::string name;
  std::function<void()> run;
};
std::vector<Case> verb_cases();
std::vector<Case> mistake_cases();

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

}  // namespace normlab::test
