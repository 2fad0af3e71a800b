// What ranks leave in the ledger for each other.
#include "engine/job_ledger.h"

#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "catch.h"
#include "tests/engine/temporary_folder.h"

using namespace normlab;
using namespace normlab::test;

namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("job_ledger: each rank reads what the others were doing") {
  const TemporaryFolder folder;
  const std::string directory = folder.path() + "/ranks";
  JobLedger first(0, 3), second(1, 3);
  CHECK(contains(first.report(), "rank 1: nothing is known of it"));
  first.keep_in(directory);
  second.keep_in(directory);
  first.set_work("step 7");
  first.enter("sum of 128 numbers");
  second.set_work("step 8");
  second.enter("broadcast of 5 numbers");
  second.leave();
  const std::string report = first.report();
  INFO(report);
  CHECK(second.report().substr(0, 20) == report.substr(0, 20));
  CHECK(contains(report, "waits in operation 1, sum of 128 numbers (step 7)"));
  CHECK(contains(report, "after operation 1, broadcast of 5 numbers (step 8)"));
  CHECK(contains(report, "(process " + std::to_string(getpid()) + ")"));
  CHECK(contains(report, "rank 2: nothing is known of it"));
  CHECK(first.gone().empty());
  first.close();
  CHECK(std::filesystem::exists(directory));
  second.close();
  CHECK(!std::filesystem::exists(directory));
}

TEST_CASE("job_ledger: a rank whose process has ended is known to be gone, reaped or not") {
  const TemporaryFolder folder;
  JobLedger own(0, 2);
  own.keep_in(folder.path() + "/ranks");
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    JobLedger other(1, 2);
    other.keep_in(folder.path() + "/ranks");
    other.enter("sum of 3 numbers");
    _exit(0);
  }
  siginfo_t ended;
  REQUIRE(waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT) == 0);
  CHECK(own.gone() == std::vector<int>{1});  // not reaped
  waitpid(child, nullptr, 0);
  CHECK(own.gone() == std::vector<int>{1});
  CHECK(contains(own.report(), "is gone: waits in operation 1, sum of 3 numbers"));
}
