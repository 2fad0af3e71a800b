// Which rank a process is, by the variables of whoever started it.
#include "engine/job_place.h"

#include <map>

#include "catch.h"
#include "kernels/error.h"

using namespace normlab;

namespace {

using Variables = std::map<std::string, std::string>;

JobPlace place_in(const Variables& variables, const std::optional<JobPlace>& said = {}) {
  return find_job_place(said, [&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

std::string complaint_in(const Variables& variables, const std::optional<JobPlace>& said = {}) {
  try {
    place_in(variables, said);
  } catch (const Error& error) {
    return (error.kind() == ErrorKind::input ? "" : "WRONG KIND: ") + std::string(error.what());
  }
  return "";
}

void check_place(const JobPlace& place, int rank, int ranks, int local_rank, int local_ranks) {
  CHECK(place.rank == rank);
  CHECK(place.ranks == ranks);
  CHECK(place.local_rank == local_rank);
  CHECK(place.local_ranks == local_ranks);
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

const Variables open_mpi = {{"OMPI_COMM_WORLD_RANK", "5"},
                            {"OMPI_COMM_WORLD_SIZE", "8"},
                            {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}};

}  // namespace

TEST_CASE("job_place: nobody says anything of a job of one") {
  check_place(place_in({}), 0, 1, 0, 1);
  CHECK(place_in({}).said_by.empty());
}

TEST_CASE("job_place: mpirun, PMI, Slurm and torchrun are understood") {
  check_place(place_in(open_mpi), 5, 8, 1, 4);
  CHECK(place_in(open_mpi).said_by == "mpirun");
  check_place(place_in({{"PMI_RANK", "3"},
                        {"PMI_SIZE", "4"},
                        {"MPI_LOCALRANKID", "1"},
                        {"MPI_LOCALNRANKS", "2"}}),
              3, 4, 1, 2);
  check_place(
      place_in({{"SLURM_PROCID", "6"}, {"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_LOCALID", "2"}}), 6,
      8, 2, 0);
  check_place(
      place_in(
          {{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "2"}}),
      1, 2, 1, 2);
}

TEST_CASE("job_place: a shell that only holds an allocation is a job of one") {
  check_place(place_in({{"SLURM_STEP_NUM_TASKS", "8"}}), 0, 1, 0, 1);
  check_place(place_in({{"SLURM_PROCID", "0"}}), 0, 1, 0, 1);
}

TEST_CASE("job_place: a step of Slurm that starts mpirun has mpirun's ranks") {
  Variables both = open_mpi;
  both.insert({{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}});
  check_place(place_in(both), 5, 8, 1, 4);
}

TEST_CASE("job_place: two launchers that contradict each other are an error") {
  Variables both = open_mpi;
  both.insert({{"RANK", "0"}, {"WORLD_SIZE", "1"}});
  const std::string words = complaint_in(both);
  CHECK(contains(words, "rank 0 of 1"));
  CHECK(contains(words, "rank 5 of 8"));
  both["RANK"] = "5";
  both["WORLD_SIZE"] = "8";
  CHECK(complaint_in(both).empty());
}

TEST_CASE("job_place: what the configuration says comes first, and is contradicted by nobody") {
  JobPlace said;
  said.rank = 5;
  said.ranks = 8;
  said.local_rank = 3;
  said.local_ranks = 0;
  said.said_by = "parallel.rank and parallel.ranks";
  check_place(place_in({}, said), 5, 8, 3, 0);
  check_place(place_in(open_mpi, said), 5, 8, 3, 0);
  CHECK(place_in(open_mpi, said).said_by == said.said_by);
  said.rank = 4;
  CHECK(contains(complaint_in(open_mpi, said),
                 "parallel.rank and parallel.ranks say rank 4 of 8, mpirun rank 5 of 8"));
}

TEST_CASE("job_place: half of a place, and no place at all, are errors") {
  CHECK(contains(complaint_in({{"RANK", "1"}}), "WORLD_SIZE is not set"));
  CHECK(contains(complaint_in({{"WORLD_SIZE", "2"}}), "RANK is not set"));
  CHECK(contains(complaint_in({{"RANK", "2"}, {"WORLD_SIZE", "2"}}), "ranks count from 0"));
  for (const std::string wrong : {"", "-1", "x", "1x", "99999999999"}) {
    INFO(wrong);
    CHECK(contains(complaint_in({{"RANK", wrong}, {"WORLD_SIZE", "2"}}), "RANK = " + wrong + " ("));
  }
}

TEST_CASE("threads_of_rank: the machine's cores are divided, within what a rank is bound to") {
  JobPlace place;
  place.ranks = place.local_ranks = 4;
  CHECK(threads_of_rank(place, 16, 16) == 4);
  CHECK(threads_of_rank(place, 16, 2) == 2);
  CHECK(threads_of_rank(place, 2, 2) == 1);
  place.local_ranks = 0;  // not known
  CHECK(threads_of_rank(place, 8, 8) == 8);
}
