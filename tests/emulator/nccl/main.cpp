// nccl_ranks CASE, started by mpirun.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <iostream>
#include <stdexcept>

#include "tests/emulator/nccl/cases.h"

namespace normlab::test {

int own_rank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

int all_ranks() {
  int ranks = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  return ranks;
}

void meet() { MPI_Barrier(MPI_COMM_WORLD); }

void broadcast_by_mpi(std::span<std::byte> bytes) {
  MPI_Bcast(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, 0, MPI_COMM_WORLD);
}

std::unique_ptr<Communicator> nccl_communicator(double timeout_seconds) {
  JobPlace place;
  place.rank = own_rank();
  place.ranks = all_ranks();
  return make_nccl_communicator(place, timeout_seconds, broadcast_by_mpi);
}

Gpu::Gpu(const emulator::StreamSettings& order, double timeout_seconds)
    : ops(make_ops(Device::cuda, Precision::fp32)),
      communicator(nccl_communicator(timeout_seconds)) {
  emulator::configure_streams(order);
  attachment = std::make_unique<Attachment>(*communicator, *ops);
}

Gpu::~Gpu() { emulator::configure_streams({}); }

namespace {

int run(const std::string& name) {
  std::vector<Case> cases = verb_cases();
  for (const Case& one : mistake_cases()) cases.push_back(one);
  for (const Case& one : cases) {
    if (one.name != name) continue;
    one.run();
    return 0;
  }
  throw Error("no case " + name);
}

}  // namespace
}  // namespace normlab::test

// A rank that fails ends the others.
int main(int count, char** arguments) {
  MPI_Init(&count, &arguments);
  int code = 1;
  try {
    code = normlab::test::run(count == 2 ? arguments[1] : "");
  } catch (const std::exception& error) {
    std::cerr << "rank " << normlab::test::own_rank() << ": " << error.what() << "\n" << std::flush;
    MPI_Abort(MPI_COMM_WORLD, code);
  }
  MPI_Finalize();
  return code;
}
