#include "engine/job_place.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/error.h"

namespace normlab {
namespace {

// The names of what one kind of launcher says; "" where it does not.
struct Launcher {
  const char* name;
  const char* rank;
  const char* ranks;
  const char* local_rank;
  const char* local_ranks;
};

// Slurm's variables are also there in a shell that only holds an allocation (salloc, a batch
// script): SLURM_PROCID says that srun started this process; of one task it is 0 of 1.
constexpr Launcher kLaunchers[] = {
    {"torchrun's variables", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
    {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"PMI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    {"Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ""},
};

std::optional<int> number(const Environment& environment, const char* name) {
  const char* text = *name == '\0' ? nullptr : environment(name);
  if (text == nullptr) return std::nullopt;
  int value = 0;
  const char* end = text + std::strlen(text);
  const auto [last, error] = std::from_chars(text, end, value);
  if (error != std::errc() || last != end || value < 0) {
    throw input_error(std::string(name) + " = " + text +
                      " (must be a whole number: it says which rank of a job this is). Unset it, "
                      "or start the job with mpirun, srun or torchrun");
  }
  return value;
}

std::string text_of(const JobPlace& place) {
  return "rank " + std::to_string(place.rank) + " of " + std::to_string(place.ranks);
}

std::optional<JobPlace> place_by(const Launcher& launcher, const Environment& environment) {
  const auto rank = number(environment, launcher.rank);
  const auto ranks = number(environment, launcher.ranks);
  if (!rank && !ranks) return std::nullopt;
  if (!rank || !ranks) {
    const char* missing = rank ? launcher.ranks : launcher.rank;
    // A batch script's shell knows tasks of a step that it is not itself.
    if (std::strcmp(launcher.name, "Slurm") == 0) return std::nullopt;
    throw input_error(std::string(missing) + " is not set (" +
                      (rank ? launcher.rank : launcher.ranks) +
                      " is: together they say which rank of a job this is). Set both or neither");
  }
  if (*ranks < 1 || *rank >= *ranks) {
    throw input_error(std::string(launcher.rank) + " = " + std::to_string(*rank) + " (" +
                      launcher.ranks + " = " + std::to_string(*ranks) +
                      ": ranks count from 0). Correct how the job is started");
  }
  JobPlace place;
  place.rank = *rank;
  place.ranks = *ranks;
  place.local_rank = number(environment, launcher.local_rank).value_or(*ranks == 1 ? 0 : *rank);
  place.local_ranks = number(environment, launcher.local_ranks).value_or(*ranks == 1 ? 1 : 0);
  place.said_by = launcher.name;
  return place;
}

}  // namespace

JobPlace find_job_place(const std::optional<JobPlace>& said, const Environment& environment) {
  std::optional<JobPlace> found = said;
  for (const Launcher& launcher : kLaunchers) {
    const auto place = place_by(launcher, environment);
    if (!place) continue;
    if (!found) {
      found = place;
      continue;
    }
    if (place->rank == found->rank && place->ranks == found->ranks) continue;
    // srun that starts one mpirun, or one torchrun, is no rank of the job.
    if (place->said_by == "Slurm") continue;
    throw input_error(found->said_by + (found->said_by == "mpirun" ? " says " : " say ") +
                      text_of(*found) + ", " + place->said_by + " " + text_of(*place) +
                      " (one process cannot be both). Start the job one way, and take back what "
                      "says the other");
  }
  return found.value_or(JobPlace{});
}

JobPlace find_job_place(const std::optional<JobPlace>& said) {
  return find_job_place(said, [](const char* name) -> const char* { return std::getenv(name); });
}

int threads_of_rank(const JobPlace& place, int cores, int allowed) {
  return std::max(1, std::min(allowed, cores / std::max(1, place.local_ranks)));
}

}  // namespace normlab
