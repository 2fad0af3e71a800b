// nccl_gpu: the verbs of NCCL's communicator on real GPUs, and the same on CPUs by MPI where mpirun
// has started several ranks, one for each GPU; alone, NCCL in a job of one.
#include <iostream>

#include "engine/job_place.h"
#include "tests/nccl/verbs.h"

namespace normlab::test {
namespace {

constexpr int kNoGpu = 77;

void check_all(Communicator& communicator, Ops& ops) {
  const Attachment attachment(communicator, ops);
  check_verbs(communicator, ops);
  check_step(communicator, ops);
  check_host_verbs(communicator);
  std::cout << "rank " << communicator.rank() << " of " << communicator.ranks() << ", "
            << communicator.description() << ", " << ops.device_name() << ": passed\n";
}

// By MPI among several ranks, then by NCCL, whose id MPI carries.
void check_both(Communicator& launcher, double timeout_seconds) {
  const auto cpu = make_ops(Device::cpu, Precision::fp32, 1);
  if (launcher.ranks() > 1) check_all(launcher, *cpu);
  const auto broadcast = [&launcher](std::span<std::byte> bytes) {
    const auto words = static_cast<int64_t>(bytes.size() / sizeof(int32_t));
    launcher.broadcast({bytes.data(), DType::i32, {1, words}}, 0);
    launcher.join();
  };
  const auto gpu = make_ops(Device::cuda, Precision::fp32, 0, launcher.place().local_rank);
  const auto nccl = make_nccl_communicator(launcher.place(), timeout_seconds, broadcast);
  check_all(*nccl, *gpu);
}

int run() {
  if (!cuda_available()) {
    std::cout << "skipped: " << cuda_status() << "\n";
    return kNoGpu;
  }
  if (nccl_status().starts_with("none")) {
    std::cout << "skipped: this build has no NCCL\n";
    return kNoGpu;
  }
  constexpr double kTimeout = 4;  // the part of tools/gpu_check has 14 for all
  const auto launcher = make_mpi_communicator(find_job_place({}), kTimeout);
  try {
    check_both(*launcher, kTimeout);
  } catch (const std::exception& error) {
    // While the launcher lives: its end would wait for the others.
    std::cerr << "nccl_gpu: rank " << launcher->rank() << ": " << error.what() << "\n"
              << std::flush;
    launcher->end_job(1);
  }
  return 0;
}

}  // namespace
}  // namespace normlab::test

int main() {
  try {
    return normlab::test::run();
  } catch (const std::exception& error) {
    std::cerr << "nccl_gpu: " << error.what() << "\n";
    return 1;
  }
}
