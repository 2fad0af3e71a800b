// What may befall a disk while a run goes on: it is full, can no more be written to, or gives back
// other data; and a clock that is set while it goes on.
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "catch.h"
#include "tests/data/corpora.h"
#include "tests/data/token_set.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

namespace fs = std::filesystem;

namespace {

constexpr int kDone = 0, kFailed = 1, kInput = 2;

const Overrides little = {"schedule.total_steps=20", "checkpoint.every=5", "evaluation.every=10"};

bool says(const Finished& finished, const std::string& text) {
  return finished.err.find(text) != std::string::npos;
}

std::string in_quotes(const std::vector<std::string>& command) {
  std::string text;
  for (const std::string& word : command) text += " '" + word + "'";
  return text;
}

// A shell in a place of its own, where it may mount what nobody else sees.
Finished in_own_mounts(const std::string& script) {
  return normlab::test::run({"unshare", "--mount", "sh", "-ec", script});
}

bool can_mount(const std::string& place) {
  if (geteuid() == 0 && in_own_mounts("mount -t tmpfs tmpfs '" + place + "'").exit_code == 0) {
    return true;
  }
  WARN("skipped: this process may not mount a small disk");
  return false;
}

const TinyRun& undisturbed() {
  static const TinyRun run(little);
  static const Finished finished = run.train();
  if (finished.exit_code != 0) throw Error(finished.err);
  return run;
}

// A set of one shard, of so many tokens.
void fill(TokenSet& set, int64_t tokens) {
  std::vector<uint16_t> ids;
  for (int64_t i = 0; i < tokens; ++i) {
    ids.push_back(static_cast<uint16_t>((i * i / 7 + i / 13) % 256));
  }
  ids.back() = 256;
  set.add(ids);
}

Overrides on(const TokenSet& set, const Overrides& more = {}) {
  Overrides overrides = {"data.grammar=null", "data.train=[" + set.directory.file("*.bin") + "]",
                         "checkpoint.every=50", "schedule.total_steps=400"};
  overrides.insert(overrides.end(), more.begin(), more.end());
  return overrides;
}

// A run that goes on while something happens to its data.
struct Reading {
  explicit Reading(int64_t tokens) { fill(set, tokens); }
  Process& at_work() {
    process.emplace(run().command());
    REQUIRE(process->wait_until([&] {
      const auto names = run().checkpoints();
      return !names.empty() && names.front().starts_with("step-");
    }));
    return *process;
  }
  const TinyRun& run() {
    if (!begun) begun.emplace(on(set));
    return *begun;
  }
  TokenSet set;
  std::optional<TinyRun> begun;
  std::optional<Process> process;
};

void check_goes_on(Reading& reading) {
  const Finished resumed = reading.run().train();
  INFO(resumed.err);
  REQUIRE(resumed.exit_code == kDone);
  const TinyRun whole(on(reading.set));
  whole.trained();
  CHECK(different_files(reading.run().checkpoint(400), whole.checkpoint(400)) ==
        std::vector<std::string>{});
}

}  // namespace

TEST_CASE("disk: a small one that fills up is told, and the run goes on when there is room") {
  const TinyRun run(little);
  fs::create_directory(run.directory());
  if (!can_mount(run.directory())) return;
  const std::string kept = run.folder().path() + "/kept";
  // A checkpoint has about 420 KB; of the first run nothing fits, of the last three do.
  for (const int kilobytes : {8, 100, 430, 700, 1300}) {
    INFO(kilobytes << " KB free");
    fs::remove_all(kept);
    const std::string train = in_quotes(run.command());
    const Finished finished = in_own_mounts(
        "mount -t tmpfs -o size=8m tmpfs '" + run.directory() + "'\ncd '" + run.directory() +
        "'\nhead -c " + std::to_string(8 * 1024 - kilobytes) + "K /dev/zero > ballast\ncode=0; " +
        train +
        " || code=$?\ntest $code = 1 || test $code = 2 || { echo exit code $code; exit 9; }" +
        "\nrm ballast\n" + train + "\ncp -r checkpoints '" + kept + "'\n");
    INFO(finished.err);
    INFO(finished.out);
    REQUIRE(finished.exit_code == kDone);
    CHECK(says(finished, "No space left on device"));
    CHECK(different_files(kept + "/step-00000020", undisturbed().checkpoint(20)) ==
          std::vector<std::string>{});
  }
}

TEST_CASE("disk: one that can no more be written to is told, and can be read") {
  const TinyRun run(little);
  fs::create_directory(run.directory());
  if (!can_mount(run.directory())) return;
  const std::string mount = "mount -o remount,";
  const std::string there = " '" + run.directory() + "'\n";
  const Finished finished =
      in_own_mounts("mount -t tmpfs -o size=8m tmpfs" + there +
                    in_quotes(run.command({"schedule.stop_step=10"})) + "\n" + mount + "ro" +
                    there + "code=0; " + in_quotes(run.command()) + " || code=$?\n" +
                    "test $code = 2 || { echo exit code $code; exit 9; }\n" + "echo verifying; '" +
                    program("train") + "' --verify" + there + "'" + program("evaluate") + "' '" +
                    run.directory() + "' --tokens '" + run.recipe() + "'\n" + mount + "rw" + there +
                    in_quotes(run.command()) + "\n" + "cp -r '" + run.directory() +
                    "/checkpoints' '" + run.folder().path() + "/kept'\n");
  INFO(finished.err);
  INFO(finished.out);
  REQUIRE(finished.exit_code == kDone);
  CHECK(says(finished, run.directory() + ": cannot be written to (Read-only file system)"));
  CHECK(says(finished, run.directory() + ": verified"));
  CHECK(different_files(run.folder().path() + "/kept/step-00000020",
                        undisturbed().checkpoint(20)) == std::vector<std::string>{});
}

TEST_CASE("disk: a run reads on from shards that are removed, and does not begin without them") {
  Reading reading(40'000);
  Process& process = reading.at_work();
  const std::string shard = reading.set.file(0), aside = reading.run().folder().path() + "/aside";
  fs::rename(shard, aside);
  const Finished finished = process.wait();
  INFO(finished.err);
  CHECK(finished.exit_code == kDone);
  fs::remove_all(reading.run().checkpoint(400));
  const Finished without = reading.run().train();
  INFO(without.err);
  CHECK(without.exit_code == kInput);
  CHECK(says(without, reading.set.directory.file("")));
  fs::rename(aside, shard);
  check_goes_on(reading);
}

TEST_CASE("disk: a shard that is written to while a run reads it ends the run, unsaved") {
  Reading reading(40'000);
  Process& process = reading.at_work();
  const std::string shard = reading.set.file(0), before = content(shard);
  const auto checkpoints = reading.run().checkpoints();
  std::fstream(shard, std::ios::in | std::ios::out | std::ios::binary).seekp(2000).put('!');
  const Finished finished = process.wait();
  INFO(finished.err);
  CHECK(finished.exit_code == kInput);
  CHECK(says(finished, shard + ": was changed while the run reads it"));
  const Finished changed = reading.run().train();
  INFO(changed.err);
  CHECK(changed.exit_code == kInput);
  write_bytes(shard, before);
  check_goes_on(reading);
}

TEST_CASE("disk: a shard that becomes shorter is named") {
  if (SANITIZED != 0) {
    WARN("skipped: sanitizers want to explain it themselves");
    return;
  }
  // Of many pages, so that one is wanted that is not there any more.
  Reading reading(400'000);
  Process& process = reading.at_work();
  const std::string shard = reading.set.file(0), before = content(shard);
  fs::resize_file(shard, 5000);
  const Finished finished = process.wait();
  INFO(finished.err);
  CHECK(finished.exit_code == kFailed);
  CHECK(says(finished, "train: " + shard + ": cannot be read any more"));
  const Finished shorter = reading.run().train();
  CHECK(shorter.exit_code == kInput);
  CHECK(says(shorter, shard + ": truncated"));
  write_bytes(shard, before);
  check_goes_on(reading);
}

TEST_CASE("clock: one that is set forth and back changes no byte of a run") {
  if (SANITIZED != 0) {
    WARN("skipped: sanitizers want to be the first library");
    return;
  }
  const TinyRun run(little);
  std::vector<std::string> command = run.command();
  command.insert(command.begin(),
                 {"env", "LD_PRELOAD=" + program("libfaults.so"), "FAULTS_CLOCK=jumps"});
  const Finished finished = normlab::test::run(command);
  INFO(finished.err);
  REQUIRE(finished.exit_code == kDone);
  CHECK(different_files(run.checkpoint(20), undisturbed().checkpoint(20)) ==
        std::vector<std::string>{});
  // The clock did jump, and no duration comes of it.
  std::istringstream log(content(run.directory() + "/log.txt"));
  std::set<std::string> days;
  for (std::string line; std::getline(log, line);) days.insert(line.substr(0, 10));
  CHECK(days.size() > 1);
  for (const auto& row : run.metrics()) {
    if (row.contains("seconds")) CHECK(std::fabs(row["seconds"].get<double>()) < 1000);
  }
}
