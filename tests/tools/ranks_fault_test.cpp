// Ranks that die, stop, are told to stop, or are not started alike: the job ends, and says why.
#include <signal.h>

#include <filesystem>

#include "catch.h"
#include "tests/tools/ranks.h"

using namespace normlab;
using namespace normlab::test;

namespace {

constexpr int kInput = 2;
constexpr int kCommunication = 6;
constexpr int kStopped = 75;

const Overrides exact = {"parallel.reproducible=true", "parallel.shards=4", "checkpoint.every=5",
                         "schedule.total_steps=400", "evaluation.every=0"};

bool says(const Finished& finished, const std::string& text) {
  return finished.err.find(text) != std::string::npos;
}

// Sends a signal to one rank of three once there is a checkpoint; what mpirun said in the end.
Finished disturb(const TinyRun& run, int rank, int signal) {
  Process job(ranks_command(run, 3, {"parallel.timeout_seconds=2"}));
  REQUIRE(job.wait_until(
      [&] { return !run.checkpoints().empty() && !rank_processes(run, 3).empty(); }));
  const std::vector<pid_t> processes = rank_processes(run, 3);
  REQUIRE(processes.size() == 3);
  kill(processes[static_cast<size_t>(rank)], signal);
  return job.wait();
}

void check_goes_on(const TinyRun& disturbed, const TinyRun& undisturbed) {
  disturbed.trained();
  CHECK(different_files(disturbed.checkpoint(400), undisturbed.checkpoint(400)) ==
        std::vector<std::string>{});
}

const TinyRun& undisturbed_run() {
  static const TinyRun run(exact);
  static const TinyRun& trained = run.trained();
  return trained;
}

}  // namespace

TEST_CASE("ranks: one that is killed ends the job, and its last checkpoint is good") {
  if (!can_run_ranks()) return;
  for (const int rank : {0, 2}) {
    INFO("rank " << rank);
    const TinyRun run(exact);
    const Finished finished = disturb(run, rank, SIGKILL);
    INFO(finished.err);
    CHECK(finished.exit_code != 0);
    CHECK(finished.seconds < 30);
    // mpirun's own words, and ours where it left a rank the time.
    CHECK(says(finished, "process rank " + std::to_string(rank)));
    check_goes_on(run, undisturbed_run());
  }
}

TEST_CASE("ranks: one that stands still ends the job, which names what each rank was doing") {
  if (!can_run_ranks()) return;
  const TinyRun run(exact);
  const Finished finished = disturb(run, 1, SIGSTOP);
  INFO(finished.err);
  CHECK(finished.exit_code == kCommunication);
  CHECK(finished.seconds < 30);
  CHECK(says(finished, "did not answer for 2s, parallel.timeout_seconds"));
  for (const char* part : {"rank 0 on ", "rank 1 on ", "rank 2 on ", "operation ", "nothing new from it for 2s"}) {
    INFO(part);
    CHECK(says(finished, part));
  }
  // One paragraph, however many ranks have come to know.
  const size_t place = finished.err.find("What each rank was doing");
  CHECK(finished.err.find("What each rank was doing", place + 1) == std::string::npos);
  check_goes_on(run, undisturbed_run());
}

TEST_CASE("ranks: a signal to one of them stops all, with one checkpoint") {
  if (!can_run_ranks()) return;
  for (const int rank : {0, 2}) {
    INFO("rank " << rank);
    const TinyRun run(exact);
    const Finished finished = disturb(run, rank, SIGTERM);
    INFO(finished.err);
    CHECK(finished.exit_code == kStopped);
    CHECK(says(finished, "saved; run the same command again to go on"));
    CHECK(!std::filesystem::exists(run.directory() + "/ranks"));
    check_goes_on(run, undisturbed_run());
  }
}

TEST_CASE("ranks: those that have not the same configuration are told so") {
  if (!can_run_ranks()) return;
  const TinyRun run(exact);
  std::vector<std::string> command = ranks_command(run, 1);
  command.insert(command.end(), {":", "-np", "1"});
  for (const std::string& word : run.command({"optimizer.learning_rate=1e-2"})) {
    command.push_back(word);
  }
  const Finished finished = normlab::test::run(command);
  INFO(finished.err);
  CHECK(finished.exit_code == kInput);
  CHECK(says(finished, "the configuration of rank 1 is not that of rank 0"));
  CHECK(run.checkpoints().empty());
}

TEST_CASE("ranks: a mistake of one rank ends the job with that rank's words") {
  if (!can_run_ranks()) return;
  const TinyRun run(exact);
  std::vector<std::string> command = ranks_command(run, 1);
  command.insert(command.end(), {":", "-np", "1"});
  for (const std::string& word :
       run.command({"data.grammar=null", "data.text=[/nonexistent.txt]"})) {
    command.push_back(word);
  }
  const Finished finished = normlab::test::run(command);
  INFO(finished.err);
  CHECK(finished.exit_code == kInput);
  CHECK(says(finished, "rank 1: data.text: /nonexistent.txt: no such file"));
  CHECK(finished.seconds < 30);
}

TEST_CASE("ranks: what cannot be divided among them is refused, once") {
  if (!can_run_ranks()) return;
  const TinyRun run;
  const struct {
    Overrides overrides;
    std::string words;
  } cases[] = {
      {{"batch.tokens_per_step=64", "batch.micro_batch=1"}, "2 sequences for 3 ranks"},
      {{"parallel.reproducible=true", "parallel.shards=2"}, "parallel.shards = 2 (3 ranks"},
      {{"run.precision=pure_bf16"}, "run.precision = pure_bf16 with 3 ranks"},
      {{"diagnostics.every=5"}, "diagnostics.every = 5 with 3 ranks"},
      {{"norm_removal={auxiliary_loss_weight: 0.1, auxiliary_group: 4}"},
       "norm_removal.auxiliary_group = 4"},
  };
  for (const auto& one : cases) {
    INFO(one.words);
    const Finished finished = normlab::test::run(ranks_command(run, 3, one.overrides));
    INFO(finished.err);
    CHECK(finished.exit_code == kInput);
    const size_t place = finished.err.find(one.words);
    CHECK(place != std::string::npos);
    CHECK(finished.err.find(one.words, place + 1) == std::string::npos);
  }
}

TEST_CASE("ranks: a process that is told of others which MPI does not know is no job of its own") {
  if (!can_run_ranks()) return;
  const TinyRun run;
  std::vector<std::string> command = {"env", "RANK=0", "WORLD_SIZE=2", "LOCAL_RANK=0"};
  for (const std::string& word : run.command()) command.push_back(word);
  const Finished finished = normlab::test::run(command);
  INFO(finished.err);
  CHECK(finished.exit_code == kInput);
  CHECK(says(finished, "torchrun's variables said rank 0 of 2, MPI knows rank 0 of 1"));
  CHECK(!std::filesystem::exists(run.directory()));
}
