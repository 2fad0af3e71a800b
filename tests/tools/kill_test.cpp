// Runs that are killed or asked to stop end in the same bytes as undisturbed ones.
#include <csignal>
#include <ctime>
#include <filesystem>
#include <random>

#include "catch.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

namespace {

constexpr int kStopped = 75;

// 100 steps, about 3 epochs, and a checkpoint after every third one.
const Overrides long_run = {"schedule.total_steps=100", "evaluation.every=40", "checkpoint.every=3",
                            "checkpoint.keep=2"};

void check_same_end(const TinyRun& disturbed, const TinyRun& undisturbed, int64_t step) {
  CHECK(different_files(disturbed.checkpoint(step), undisturbed.checkpoint(step)) ==
        std::vector<std::string>{});
  for (const std::string& name : disturbed.checkpoints()) CHECK(name.starts_with("step-"));
}

// Rows of steps that count, each once and in order.
void check_metrics(const TinyRun& run, int64_t steps) {
  int64_t expected = 1;
  for (const auto& row : run.metrics()) {
    if (row.contains("discarded") || row.contains("event") || !row.contains("loss")) continue;
    CHECK(row.at("step") == expected++);
  }
  CHECK(expected == steps + 1);
}

}  // namespace

TEST_CASE("train: a run killed 20 times at random moments ends in an undisturbed run's bytes") {
  const TinyRun undisturbed(long_run);
  const Finished whole = undisturbed.train();
  REQUIRE(whole.exit_code == 0);
  const TinyRun killed(long_run);
  constexpr int kKills = 20;
  std::mt19937 random(20240520);
  std::uniform_real_distribution<double> part(0, 1.5);
  for (int kill = 0; kill < kKills; ++kill) {
    // On the whole about three quarters of the undisturbed time, starts included.
    const double delay = part(random) * (whole.seconds / kKills + 0.02);
    INFO("kill " << kill << " after " << delay << " s");
    Process process(killed.command());
    sleep_seconds(delay);
    process.signal(SIGKILL);
    const Finished finished = process.wait();
    // On a machine that is suddenly faster the last kills may come too late.
    CHECK((finished.exit_code == 128 + SIGKILL || finished.exit_code == 0));
  }
  const Finished end = killed.train();
  INFO(end.err);
  REQUIRE(end.exit_code == 0);
  check_same_end(killed, undisturbed, 100);
  check_metrics(killed, 100);
}

TEST_CASE("train: a run killed before its first checkpoint starts again") {
  const TinyRun killed({"checkpoint.every=0", "schedule.total_steps=100000"});
  Process process(killed.command());
  CHECK(process.wait_until(
      [&] { return count_lines(content(killed.directory() + "/metrics.jsonl")) > 3; }));
  process.signal(SIGKILL);
  CHECK(process.wait().exit_code == 128 + SIGKILL);
  CHECK(killed.train({"schedule.stop_step=3"}).exit_code == 0);
  check_metrics(killed, 3);
}

TEST_CASE("train: SIGTERM, SIGINT and SIGUSR1 save and exit 75, and the run goes on bit for bit") {
  const TinyRun undisturbed(long_run);
  REQUIRE(undisturbed.train().exit_code == 0);
  for (const auto& [number, name] : {std::pair<int, std::string>{SIGTERM, "SIGTERM"},
                                     {SIGINT, "SIGINT"},
                                     {SIGUSR1, "SIGUSR1"}}) {
    INFO(name);
    Overrides rarely = long_run;
    rarely.push_back("checkpoint.every=0");
    const TinyRun stopped(rarely);
    Process process(stopped.command());
    const std::string metrics = stopped.directory() + "/metrics.jsonl";
    REQUIRE(process.wait_until([&] { return count_lines(content(metrics)) >= 5; }));
    process.signal(number);
    const Finished finished = process.wait();
    INFO(finished.err);
    REQUIRE(finished.exit_code == kStopped);
    CHECK(finished.err.find("stopped by " + name) != std::string::npos);
    const int64_t step = stopped.last_step();
    CHECK(step < 100);
    CHECK(std::filesystem::exists(stopped.checkpoint(step)));
    REQUIRE(stopped.train({"checkpoint.every=50"}).exit_code == 0);
    check_same_end(stopped, undisturbed, 100);
    check_metrics(stopped, 100);
  }
}

TEST_CASE("train: saves and stops before its Slurm job's time is up") {
  const TinyRun undisturbed(long_run);
  REQUIRE(undisturbed.train().exit_code == 0);
  Overrides rarely = long_run;
  rarely.push_back("checkpoint.every=0");
  const TinyRun stopped(rarely);
  const auto ends_in = [](int64_t seconds) {
    return "SLURM_JOB_END_TIME=" + std::to_string(std::time(nullptr) + seconds);
  };
  const Overrides endless = {"checkpoint.seconds_before_end=65", "schedule.total_steps=20000",
                             "schedule.kind=constant"};
  std::vector<std::string> command = stopped.command(endless);
  command.insert(command.begin(), {"env", ends_in(75)});
  const Finished finished = run(command);
  INFO(finished.err);
  CHECK(finished.exit_code == kStopped);
  CHECK(finished.seconds < 60);
  CHECK(finished.err.find("the Slurm job ends in ") != std::string::npos);
  CHECK(finished.err.find("stopped by the end of the Slurm job's time at step ") !=
        std::string::npos);
  const int64_t step = stopped.last_step();
  CHECK(std::filesystem::exists(stopped.checkpoint(step)));
  Overrides onward = endless;
  onward.push_back("schedule.stop_step=" + std::to_string(step + 5));
  CHECK(stopped.train(onward).exit_code == 0);
  check_metrics(stopped, step + 5);

  const TinyRun hurried(long_run);
  command = hurried.command();
  command.insert(command.begin(), {"env", ends_in(60)});
  const Finished whole = run(command);
  INFO(whole.err);
  CHECK(whole.exit_code == 0);
  CHECK(whole.err.find("ends in less than 2m 00s, checkpoint.seconds_before_end") !=
        std::string::npos);
  check_same_end(hurried, undisturbed, 100);
}

TEST_CASE("train: a run stopped while it starts saves step 0 and goes on") {
  const TinyRun undisturbed;
  REQUIRE(undisturbed.train().exit_code == 0);
  const TinyRun stopped;
  Process process(stopped.command());
  REQUIRE(process.wait_until([&] { return process.awaits(SIGTERM); }));
  process.signal(SIGTERM);
  const Finished finished = process.wait();
  INFO(finished.err);
  CHECK(finished.exit_code == kStopped);
  CHECK(stopped.checkpoints() == std::vector<std::string>{"step-00000000"});
  REQUIRE(stopped.train().exit_code == 0);
  check_same_end(stopped, undisturbed, 60);
}

TEST_CASE("train: a stop that comes while it saves waits for the checkpoint") {
  const Overrides every_step = {"checkpoint.every=1", "schedule.total_steps=40"};
  const TinyRun undisturbed(every_step);
  const Finished whole = undisturbed.train();
  REQUIRE(whole.exit_code == 0);
  const TinyRun stopped(every_step);
  std::mt19937 random(3);
  std::uniform_real_distribution<double> part(0, 1);
  int stops = 0;
  for (int i = 0; i < 5; ++i) {
    Process process(stopped.command());
    if (!process.wait_until([&] { return process.awaits(SIGUSR1); })) break;
    sleep_seconds(part(random) * whole.seconds / 5);
    process.signal(SIGUSR1);
    const Finished finished = process.wait();
    INFO(finished.err);
    CHECK((finished.exit_code == kStopped || finished.exit_code == 0));
    stops += finished.exit_code == kStopped;
  }
  CHECK(stops >= 2);
  REQUIRE(stopped.train().exit_code == 0);
  check_same_end(stopped, undisturbed, 40);
}

TEST_CASE("train: an evaluation gives way to a stop and is done again on resume") {
  // Evaluating takes most of the time: 200 validation documents after every fourth step.
  const Overrides heavy = {"data.grammar.documents=400", "data.validation_fraction=0.5",
                           "evaluation.every=4", "schedule.total_steps=8"};
  const TinyRun undisturbed(heavy);
  const Finished whole = undisturbed.train();
  REQUIRE(whole.exit_code == 0);
  for (const int64_t step : {4, 8}) {
    INFO("in the evaluation after step " << step);
    const TinyRun stopped(heavy);
    Process process(stopped.command());
    const std::string metrics = stopped.directory() + "/metrics.jsonl";
    REQUIRE(process.wait_until([&] { return count_lines(content(metrics)) >= step - 1; }));
    sleep_seconds(whole.seconds / 10);
    process.signal(SIGTERM);
    const Finished finished = process.wait();
    INFO(finished.err);
    REQUIRE(finished.exit_code == kStopped);
    REQUIRE(stopped.last_step() == step);
    REQUIRE(!stopped.metrics().back().contains("validation_loss"));
    REQUIRE(stopped.train().exit_code == 0);
    check_same_end(stopped, undisturbed, 8);
    std::vector<double> losses, expected;
    for (const auto& row : stopped.metrics()) {
      if (row.contains("validation_loss")) losses.push_back(row["validation_loss"]);
    }
    for (const auto& row : undisturbed.metrics()) {
      if (row.contains("validation_loss")) expected.push_back(row["validation_loss"]);
    }
    CHECK(losses == expected);
  }
}

TEST_CASE("train: a second SIGINT ends the program at once") {
  // One pass of a step takes long enough for both to come within it.
  const TinyRun slow({"model.width=256", "model.layers=8", "data.sequence_length=256",
                      "model.context=256", "batch.tokens_per_step=32768", "batch.micro_batch=128"});
  Process process(slow.command());
  REQUIRE(process.wait_until(
      [&] { return std::filesystem::exists(slow.directory() + "/config.yaml"); }));
  sleep_seconds(0.1);
  process.signal(SIGINT);
  sleep_seconds(0.05);
  process.signal(SIGINT);
  CHECK(process.wait().exit_code == 128 + SIGINT);
}
