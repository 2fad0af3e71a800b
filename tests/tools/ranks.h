// Runs of several ranks on this machine, started by mpirun.
#pragma once

#include "tests/tools/tiny_run.h"

namespace normlab::test {

// Whether the build has MPI and this machine has mpirun; says that a test is skipped where not.
bool can_run_ranks();

// Where the mpirun of this process keeps its files: of two in one place, one that ends takes away
// what one that begins has just found.
const std::string& mpi_directory();

// `mpirun` and how it takes so many ranks, as root and on a small machine too; a program follows.
std::vector<std::string> launcher(int ranks);

// The command that trains the run with so many ranks.
std::vector<std::string> ranks_command(const TinyRun& run, int ranks, const Overrides& more = {});
// To its end; throws where that fails.
void train_ranks(const TinyRun& run, int ranks, const Overrides& more = {});

// Process of each rank of a run that goes on, from its ledger; empty where they have not begun.
std::vector<pid_t> rank_processes(const TinyRun& run, int ranks);

}  // namespace normlab::test
