// Ranks on two machines: network namespaces that a cable joins, until it is cut.
#include <signal.h>

#include "catch.h"
#include "tests/tools/machines.h"
#include "tests/tools/ranks.h"

using namespace normlab;
using namespace normlab::test;

namespace {

const Overrides exact = {"parallel.reproducible=true", "parallel.shards=2", "checkpoint.every=5",
                         "evaluation.every=0", "schedule.total_steps=400"};

bool possible() { return can_run_ranks() && TwoMachines::possible(); }

std::vector<std::string> command_of(const TwoMachines& machines, const TinyRun& run,
                                    const Overrides& more = {},
                                    const std::vector<std::string>& of_mpirun = {}) {
  std::vector<std::string> words = machines.launcher(of_mpirun);
  for (const std::string& word : run.command(more)) words.push_back(word);
  return words;
}

bool says(const Finished& finished, const std::string& text) {
  return finished.err.find(text) != std::string::npos;
}

std::string weights_of(const TinyRun& run) {
  return content(run.checkpoint(20) + "/model.safetensors");
}

bool all_ended(const TwoMachines& machines) {
  return machines.processes(0, "train").empty() && machines.processes(1, "train").empty();
}

bool end_within(const TwoMachines& machines, double seconds) {
  for (double waited = 0; waited < seconds; waited += 0.1) {
    if (all_ended(machines)) return true;
    sleep_seconds(0.1);
  }
  return false;
}

// Cuts the cable once there is a checkpoint.
void cut_in_mid_run(Process& job, const TinyRun& run, TwoMachines& machines) {
  // Names with a dot are of those that are not complete.
  REQUIRE(job.wait_until([&] {
    const auto names = run.checkpoints();
    return !names.empty() && names.back().starts_with("step-");
  }));
  machines.cut_cable();
}

void check_goes_on(const TinyRun& run) {
  const TinyRun undisturbed(exact);
  run.trained({"schedule.stop_step=100"});
  undisturbed.trained({"schedule.stop_step=100"});
  CHECK(different_files(run.checkpoint(100), undisturbed.checkpoint(100)) ==
        std::vector<std::string>{});
}

}  // namespace

TEST_CASE("ranks on two machines: they compute what one does") {
  if (!possible()) return;
  const TwoMachines machines;
  const TinyRun alone(exact), parted(exact);
  alone.trained({"schedule.stop_step=20"});
  const Finished finished =
      normlab::test::run(command_of(machines, parted, {"schedule.stop_step=20"}));
  INFO(finished.err);
  CHECK(finished.exit_code == 0);
  // Of the optimizer's state each rank has written a share.
  CHECK(weights_of(parted) == weights_of(alone));
  CHECK(content(parted.directory() + "/log.txt").find("2 ranks by MPI") != std::string::npos);
}

TEST_CASE(
    "ranks on two machines: a cut cable ends the ranks of both, and it is said what each did") {
  if (!possible()) return;
  TwoMachines machines;
  const TinyRun run(exact);
  Process job(command_of(machines, run, {"parallel.timeout_seconds=2"}));
  cut_in_mid_run(job, run, machines);
  CHECK(end_within(machines, 20));
  job.signal(SIGKILL);  // mpirun waits for the other machine by clocks of its own
  const Finished finished = job.wait();
  INFO(finished.err);
  CHECK(says(finished, "a rank did not answer for 2s, parallel.timeout_seconds"));
  for (const int machine : {0, 1}) {
    CHECK(says(finished, "rank " + std::to_string(machine) + " on " + machines.name(machine)));
  }
  check_goes_on(run);
}

TEST_CASE("ranks on two machines: mpirun's keepalives find the cut before the ranks do") {
  if (!possible()) return;
  const std::string version = normlab::test::run({"mpirun", "--version"}).out;
  if (version.find("(Open MPI) 4.") == std::string::npos) {
    WARN("skipped: the keepalives' names are Open MPI 4's, and this is " << version);
    return;
  }
  TwoMachines machines;
  const TinyRun run(exact);
  Process job(
      command_of(machines, run, {"parallel.timeout_seconds=30"},
                 {"--mca", "oob_tcp_keepalive_time", "1", "--mca", "oob_tcp_keepalive_intvl", "1",
                  "--mca", "oob_tcp_keepalive_probes", "2"}));
  cut_in_mid_run(job, run, machines);
  const Finished finished = job.wait();
  INFO(finished.err);
  CHECK(finished.exit_code != 0);
  CHECK(finished.seconds < 20);
  // What mpirun says of it does not always come out before it ends.
  CHECK(end_within(machines, 20));
  check_goes_on(run);
}
