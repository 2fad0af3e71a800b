// Ranks with an emulated GPU each, which speak by NCCL's double: the program itself, under mpirun
// and without it.
#include <signal.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "catch.h"
#include "tests/tools/ranks.h"

using namespace normlab;
using namespace normlab::test;

namespace {

constexpr int kInput = 2;
constexpr int kCommunication = 6;
constexpr int kStopped = 75;

const Overrides gpu = {
    "run.device=cuda",         "run.precision=fp32",     "batch.tokens_per_step=96",
    "batch.micro_batch=1",     "schedule.total_steps=6", "schedule.warmup_steps=2",
    "schedule.stop_step=6",    "evaluation.every=3",     "checkpoint.every=3",
    "data.sequence_length=16", "evaluation.tokens=64"};
const std::string removal =
    "norm_removal={mlp: {start: 1, gap: 1, momentum: 0.3}, final: {start: 4, momentum: 0.4}}";

Overrides with(Overrides base, const Overrides& more) {
  base.insert(base.end(), more.begin(), more.end());
  return base;
}

bool says(const Finished& finished, const std::string& text) {
  return finished.err.find(text) != std::string::npos;
}

std::vector<double> numbers(const TinyRun& run, const std::string& name) {
  std::vector<double> found;
  for (const auto& row : run.metrics()) {
    if (row.contains(name) && !row.contains("discarded")) found.push_back(row[name]);
  }
  return found;
}

std::string weights_of(const TinyRun& run, int64_t step) {
  return content(run.checkpoint(step) + "/model.safetensors");
}

}  // namespace

TEST_CASE("ranks on emulated GPUs: 2 and 3 compute the curve of one") {
  if (!can_run_ranks()) return;
  const TinyRun alone(gpu, "train_emulated");
  alone.trained();
  for (const int ranks : {2, 3}) {
    for (const std::string stage : {"0", "1"}) {
      INFO(ranks << " ranks, zero_stage " << stage);
      const TinyRun shared(with(gpu, {"parallel.zero_stage=" + stage}), "train_emulated");
      train_ranks(shared, ranks);
      for (const char* name : {"loss", "grad_norm", "validation_loss"}) {
        const auto left = numbers(alone, name), right = numbers(shared, name);
        REQUIRE(left.size() == right.size());
        REQUIRE(!left.empty());
        for (size_t i = 0; i < left.size(); ++i) CHECK(right[i] == Approx(left[i]).epsilon(1e-5));
      }
      CHECK(content(shared.directory() + "/log.txt").find("one GPU each") != std::string::npos);
    }
  }
}

TEST_CASE(
    "ranks on emulated GPUs: parallel.reproducible gives one rank's bits, resumed by others") {
  if (!can_run_ranks()) return;
  for (const std::string precision : {"fp32", "bf16"}) {
    INFO(precision);
    const Overrides exact = with(gpu, {"run.precision=" + precision, "parallel.reproducible=true",
                                       "parallel.shards=3", removal});
    const TinyRun alone(exact, "train_emulated"), parted(exact, "train_emulated");
    alone.trained();
    train_ranks(parted, 3, {"schedule.stop_step=2"});
    train_ranks(parted, 2, {"schedule.stop_step=4"});
    parted.trained();
    CHECK(weights_of(parted, 6) == weights_of(alone, 6));
    CHECK(numbers(parted, "loss") == numbers(alone, "loss"));
  }
}

TEST_CASE("ranks on emulated GPUs: one that stands still ends the job, which says so") {
  if (!can_run_ranks()) return;
  const TinyRun run(with(gpu, {"schedule.total_steps=4000", "schedule.stop_step=4000",
                               "parallel.timeout_seconds=2"}),
                    "train_emulated");
  Process job(ranks_command(run, 2));
  REQUIRE(job.wait_until(
      [&] { return !run.checkpoints().empty() && !rank_processes(run, 2).empty(); }));
  kill(rank_processes(run, 2)[1], SIGSTOP);
  const Finished finished = job.wait();
  INFO(finished.err);
  CHECK(finished.exit_code == kCommunication);
  CHECK(finished.seconds < 60);
  CHECK(says(finished, "did not answer for 2s, parallel.timeout_seconds"));
  CHECK(says(finished, "rank 1 on "));
}

TEST_CASE("ranks on emulated GPUs: without mpirun they meet by files, or say who is missing") {
  if (!can_run_ranks()) return;
  const TinyRun run(with(gpu, {"parallel.timeout_seconds=1"}), "train_emulated");
  const Finished finished = run.train({"parallel.rank=1", "parallel.ranks=2"});
  INFO(finished.err);
  CHECK(finished.exit_code == kCommunication);
  CHECK(says(finished, "rendezvous: the first rank has not answered within 1s"));
  // What that rank left behind does not make the directory a run's.
  const Finished fresh = run.train({"--fresh", "schedule.stop_step=1"});
  INFO(fresh.err);
  CHECK(fresh.exit_code == 0);
}

TEST_CASE("ranks on emulated GPUs: variables of srun and of torchrun are enough to meet by") {
  if (!can_run_ranks()) return;
  // NCCL's double speaks by MPI, so that mpirun stands behind; the program sees nothing of it.
  const std::string as_another =
      "rank=$OMPI_COMM_WORLD_RANK; "
      "unset $(env | sed -n 's/^\\(OMPI_COMM_WORLD_[A-Z_]*\\)=.*/\\1/p'); ";
  const struct {
    const char* name;
    std::string variables;
  } launchers[] = {
      {"srun without PMIx",
       "export SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=$rank "
       "SLURM_LOCALID=$rank; "},
      {"torchrun",
       "export RANK=$rank LOCAL_RANK=$rank WORLD_SIZE=2 LOCAL_WORLD_SIZE=2 MASTER_ADDR=localhost "
       "MASTER_PORT=" +
           std::to_string(20000 + getpid() % 10000) + "; "}};
  for (const auto& launched : launchers) {
    INFO(launched.name);
    const TinyRun run(gpu, "train_emulated");
    std::vector<std::string> command = launcher(2);
    for (const std::string& word : {std::string("sh"), std::string("-c"),
                                    as_another + launched.variables + "exec \"$0\" \"$@\""}) {
      command.push_back(word);
    }
    for (const std::string& word : run.command()) command.push_back(word);
    const Finished finished = normlab::test::run(command);
    INFO(finished.err);
    CHECK(finished.exit_code == 0);
    CHECK(run.last_step() == 6);
    CHECK(says(finished, "2 ranks by NCCL"));
  }
}

TEST_CASE("ranks on emulated GPUs: a signal ends those that wait for others to come") {
  if (!can_run_ranks()) return;
  for (const std::string rank : {"0", "1"}) {
    for (const bool by_tcp : {false, true}) {
      INFO("rank " << rank << (by_tcp ? ", TCP" : ", files"));
      const TinyRun run(gpu, "train_emulated");
      std::vector<std::string> command =
          run.command({"parallel.rank=" + rank, "parallel.ranks=2", "parallel.timeout_seconds=15"});
      if (by_tcp) {
        const std::string port = "MASTER_PORT=" + std::to_string(20000 + getpid() % 10000);
        command.insert(command.begin(), {"env", "MASTER_ADDR=127.0.0.1", port});
      }
      Process waiting(command);
      REQUIRE(waiting.wait_until([&] { return waiting.awaits(SIGTERM); }));
      sleep_seconds(0.5);  // into the rendezvous
      waiting.signal(SIGTERM);
      const Finished finished = waiting.wait();
      INFO(finished.err);
      CHECK(finished.exit_code == kStopped);
      CHECK(finished.seconds < 30);
      CHECK(says(finished, "stopped by SIGTERM while "));
      CHECK(says(finished, "run the same command again to go on"));
    }
  }
}

TEST_CASE("ranks: what the configuration says contradicts mpirun, or says too little") {
  if (!can_run_ranks()) return;
  const TinyRun run;
  const Finished contradicted =
      normlab::test::run(ranks_command(run, 2, {"parallel.rank=0", "parallel.ranks=2"}));
  INFO(contradicted.err);
  CHECK(contradicted.exit_code == kInput);
  CHECK(says(contradicted, "parallel.rank and parallel.ranks say rank 0 of 2, mpirun rank 1 of 2"));
  const Finished half = run.train({"parallel.rank=1"});
  INFO(half.err);
  CHECK(half.exit_code == kInput);
  CHECK(says(half, "parallel.ranks"));
}
