#include "tests/tools/ranks.h"

#include <fstream>

#include "catch.h"

namespace normlab::test {

bool can_run_ranks() {
  static const bool can = [] {
    const Finished version = run({program("train"), "--version"});
    return version.out.find("MPI: Open MPI") != std::string::npos &&
           run({"mpirun", "--version"}).exit_code == 0;
  }();
  if (!can) WARN("skipped: the build has no MPI, or this machine no mpirun");
  return can;
}

const std::string& mpi_directory() {
  static const TemporaryFolder folder;
  static const std::string path = folder.path();
  return path;
}

std::vector<std::string> launcher(int ranks) {
  // Without the copies between processes that containers forbid.
  return {"mpirun",
          "--allow-run-as-root",
          "--oversubscribe",
          "--bind-to",
          "none",
          "--mca",
          "btl_vader_single_copy_mechanism",
          "none",
          "--mca",
          "orte_tmpdir_base",
          mpi_directory(),
          "-np",
          std::to_string(ranks)};
}

std::vector<std::string> ranks_command(const TinyRun& run, int ranks, const Overrides& more) {
  std::vector<std::string> words = launcher(ranks);
  for (const std::string& word : run.command(more)) words.push_back(word);
  return words;
}

void train_ranks(const TinyRun& tiny, int ranks, const Overrides& more) {
  const Finished finished = run(ranks_command(tiny, ranks, more));
  if (finished.exit_code == 0) return;
  throw Error(std::to_string(ranks) + " ranks that must succeed ended with " +
              std::to_string(finished.exit_code) + ": " + finished.err);
}

std::vector<pid_t> rank_processes(const TinyRun& run, int ranks) {
  std::vector<pid_t> processes;
  for (int rank = 0; rank < ranks; ++rank) {
    std::ifstream file(run.directory() + "/ranks/rank-000" + std::to_string(rank));
    pid_t process = 0;
    if (file >> process && process > 0) processes.push_back(process);
  }
  return processes.size() == static_cast<size_t>(ranks) ? processes : std::vector<pid_t>{};
}

}  // namespace normlab::test
