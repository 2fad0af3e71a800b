// What a job of several ranks asks of a run, and what its ranks hold against each other.
#pragma once

#include "engine/communicator.h"
#include "engine/config.h"
#include "models/model.h"

namespace normlab {

// Which rank this process is, and what carries what the ranks say to each other: MPI between CPUs,
// NCCL between GPUs. Throws an input Error where the build has not what the job needs.
std::unique_ptr<Communicator> join_job(const Config& config);

// Throws an input Error that says why this run cannot be divided among the ranks.
void check_ranks(const Config& config, int64_t ranks);

// With the threads of one rank, where the configuration leaves them open.
RunConfig run_of_rank(RunConfig run, const JobPlace& place);

// "4 ranks by MPI (Open MPI v4.1.4), 1 thread each", "4 ranks by NCCL 2.28.9, one GPU each".
std::string ranks_text(const Communicator& communicator, const RunConfig& run);

// Ranks meet, the first having made the run's directory, and begin the ledger in RUN/ranks.
void begin_ledger(Communicator& communicator, const std::string& run_directory);

// Throws an Error of kind communication that names the ranks whose weights are not the first
// rank's. Waits.
void check_replicas(const Model& model, Communicator& communicator, int64_t step);

// Throws an input Error unless every rank says the same: `what` is what differs.
void check_agreement(Communicator& communicator, uint64_t value, const std::string& what);

}  // namespace normlab
