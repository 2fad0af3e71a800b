// JobPlace: which of a job's processes this one is.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace normlab {

struct JobPlace {
  int rank = 0;
  int ranks = 1;
  int local_rank = 0;   // among the ranks of this machine
  int local_ranks = 1;  // 0: not said
  // "parallel.rank and parallel.ranks", "torchrun's variables", "mpirun", "PMI", "Slurm"; "" for a
  // job of one.
  std::string said_by;
};

// The value of an environment variable, or null.
using Environment = std::function<const char*(const char* name)>;

// `said`, by the configuration; else from the variables of whoever started the process: torchrun's
// (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE), then Open MPI's, then PMI's (MPICH, Intel MPI),
// then Slurm's. None: a job of one. Throws an input Error where two of them contradict each other,
// or one is no number.
JobPlace find_job_place(const std::optional<JobPlace>& said, const Environment& environment);
// The same from this process's environment.
JobPlace find_job_place(const std::optional<JobPlace>& said);

// Threads of a rank where the configuration leaves them open: its part of the machine's cores, but
// no more than it is bound to (`allowed`: mpirun binds ranks to cores), and at least one.
int threads_of_rank(const JobPlace& place, int cores, int allowed);

}  // namespace normlab
