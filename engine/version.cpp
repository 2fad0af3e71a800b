#include "engine/version.h"

#include <thread>

#include "build_info.h"
#include "engine/communicator.h"
#include "kernels/ops.h"

namespace normlab {

std::string code_version() { return std::string(kVersion) + " (" + kCommit + ")"; }

std::string version_text(const std::string& program) {
  return program + " of normlab " + code_version() + "\ncompiler: " + kCompiler +
         "\nCPU: " + std::to_string(std::thread::hardware_concurrency()) + " cores; products by " +
         cpu_vectors() + "\nCUDA: " + cuda_status() + "\nMPI: " + mpi_status() +
         "\nNCCL: " + nccl_status();
}

}  // namespace normlab
