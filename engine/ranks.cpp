#include "engine/ranks.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "engine/device.h"
#include "engine/hash.h"
#include "engine/rendezvous.h"
#include "engine/run_directory.h"

namespace normlab {
namespace {

// "2 and 3" of the ranks that say something else than the first.
std::string others_of(const std::vector<uint64_t>& values) {
  std::string names;
  for (size_t rank = 1; rank < values.size(); ++rank) {
    if (values[rank] != values[0]) names += (names.empty() ? "" : ", ") + std::to_string(rank);
  }
  return names;
}

int machine_cores() { return static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)); }
int allowed_cores() { return static_cast<int>(std::thread::hardware_concurrency()); }

// By the MPI of mpirun, which then also has the ranks' places on their machines.
std::unique_ptr<Communicator> nccl_beside_mpi(const JobPlace& place, double timeout_seconds) {
  std::unique_ptr<Communicator> launcher = make_mpi_communicator(place, timeout_seconds);
  const JobPlace known = launcher->place();
  const auto broadcast = [mpi = launcher.get()](std::span<std::byte> bytes) {
    const auto count = static_cast<int64_t>(bytes.size() / sizeof(int32_t));
    mpi->broadcast({bytes.data(), DType::i32, {1, count}}, 0);
    mpi->join();
  };
  return make_nccl_communicator(known, timeout_seconds, broadcast, std::move(launcher));
}

}  // namespace

std::unique_ptr<Communicator> join_job(const Config& config) {
  const JobPlace place = find_job_place(config.parallel.place);
  const double timeout = config.parallel.timeout_seconds;
  if (place.ranks == 1) return make_local_communicator();
  if (resolve_device(config.run).device != DeviceChoice::cuda) {
    return make_mpi_communicator(place, timeout);
  }
  if (mpi_available() && place.said_by == "mpirun") return nccl_beside_mpi(place, timeout);
  const auto variable = [](const char* name) -> const char* { return std::getenv(name); };
  return make_nccl_communicator(
      place, timeout,
      find_broadcast(place, config.run.directory + "/" + kRendezvousDirectory, timeout, variable));
}

void check_ranks(const Config& config, int64_t ranks) {
  if (ranks == 1) return;
  const std::string count = std::to_string(ranks);
  const int64_t sequences = config.sequences_per_step();
  if (is_pure_bf16(config.run.precision)) {
    throw input_error("run.precision = pure_bf16 with " + count +
                      " ranks (the program that it repeats is followed on one alone). Use another "
                      "precision, or one rank");
  }
  if (config.diagnostics.every > 0) {
    throw input_error("diagnostics.every = " + std::to_string(config.diagnostics.every) + " with " +
                      count +
                      " ranks (each sees only its part of a step). Use diagnostics.every: 0 and "
                      "`analyze depth` on the checkpoints, or one rank");
  }
  if (sequences < ranks) {
    throw input_error("batch.tokens_per_step has " + std::to_string(sequences) + " sequences for " +
                      count + " ranks (each needs one). Raise it or start fewer ranks");
  }
  if (config.parallel.reproducible && config.parallel.shards < ranks) {
    throw input_error("parallel.shards = " + std::to_string(config.parallel.shards) + " (" + count +
                      " ranks each need one). Raise it, or start fewer ranks");
  }
  const int64_t group = config.norm_removal.auxiliary_group;
  const bool divides = sequences % (ranks * group) == 0;
  if (config.norm_removal.auxiliary_loss_weight > 0 && !config.parallel.reproducible && !divides) {
    throw input_error("norm_removal.auxiliary_group = " + std::to_string(group) + " (the " +
                      std::to_string(sequences) + " sequences of a step are no multiple of " +
                      count +
                      " ranks of such groups, and a group lies within one rank). Change "
                      "one of them");
  }
}

RunConfig run_of_rank(RunConfig run, const JobPlace& place) {
  if (run.threads == 0 && place.ranks > 1) {
    run.threads = threads_of_rank(place, machine_cores(), allowed_cores());
  }
  return run;
}

std::string ranks_text(const Communicator& communicator, const RunConfig& run) {
  const JobPlace& place = communicator.place();
  const int64_t threads = run_of_rank(run, place).threads;
  std::string text =
      std::to_string(communicator.ranks()) + " ranks by " + communicator.description() + ", ";
  if (resolve_device(run).device == DeviceChoice::cuda) return text + "one GPU each";
  text += std::to_string(threads) + (threads == 1 ? " thread each" : " threads each");
  const int part = threads_of_rank(place, machine_cores(), machine_cores());
  if (run.threads == 0 && threads < part) {
    text += " (bound to " + std::to_string(allowed_cores()) + " of " +
            std::to_string(machine_cores()) + " cores; `mpirun --bind-to none` gives each " +
            std::to_string(part) + ")";
  }
  return text;
}

void begin_ledger(Communicator& communicator, const std::string& run_directory) {
  if (communicator.ranks() == 1) return;
  const std::string directory = run_directory + "/ranks";
  std::error_code ignored;  // what an earlier job has left
  if (communicator.is_first()) std::filesystem::remove_all(directory, ignored);
  communicator.all_equal(0);
  communicator.ledger().keep_in(directory);
}

void check_replicas(const Model& model, Communicator& communicator, int64_t step) {
  if (communicator.ranks() == 1) return;
  const Tensor values = model.values();
  std::string bytes(static_cast<size_t>(values.elements() * size_of(values.dtype)), '\0');
  model.ops().download(bytes.data(), values);
  const std::vector<uint64_t> hashes = communicator.gather(hash_text(bytes));
  const std::string others = others_of(hashes);
  if (others.empty()) return;
  throw Error(ErrorKind::communication,
              "the weights of rank " + others + " are not those of rank 0 at step " +
                  std::to_string(step) +
                  " (memory or a network that changes numbers, or machines that compute otherwise: "
                  "compare their processors and libraries). Nothing was saved; the same command "
                  "goes on from the last checkpoint");
}

void check_agreement(Communicator& communicator, uint64_t value, const std::string& what) {
  const std::string others = others_of(communicator.gather(value));
  if (others.empty()) return;
  throw input_error(what + " of rank " + others +
                    " is not that of rank 0 (the ranks do not see the same files, or were not "
                    "started with the same command). Put the configuration, the data and "
                    "run.directory where all machines see them");
}

}  // namespace normlab
