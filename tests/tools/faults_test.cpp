// A run that is killed, or meets a full disk, at each of the calls by which it changes its
// directory.
#include <signal.h>

#include <cstdlib>

#include "catch.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

namespace {

constexpr int kFailed = 1, kInput = 2;

// Three checkpoints, of which two stay.
const Overrides little = {"schedule.total_steps=6", "schedule.warmup_steps=2",
                          "checkpoint.every=2",     "checkpoint.keep=2",
                          "evaluation.every=3",     "evaluation.tokens=64"};

std::vector<std::string> spoilt(const TinyRun& run, const std::string& kind, int64_t at) {
  std::vector<std::string> command = run.command();
  command.insert(command.begin(),
                 {"env", "LD_PRELOAD=" + program("libfaults.so"), "FAULTS_IN=" + run.directory(),
                  "FAULTS_COUNT=" + run.folder().path() + "/calls", "FAULTS_KIND=" + kind,
                  "FAULTS_AT=" + std::to_string(at)});
  return command;
}

int64_t calls_of(const TinyRun& run) {
  const std::string text = content(run.folder().path() + "/calls");
  return text.empty() ? 0 : std::stoll(text);
}

// Of a run that nothing disturbs.
struct Undisturbed {
  TinyRun run{little};
  int64_t calls = 0;
  Undisturbed() {
    const Finished finished = normlab::test::run(spoilt(run, "none", 0));
    if (finished.exit_code != 0) throw Error(finished.err);
    calls = calls_of(run);
  }
};

const Undisturbed& undisturbed() {
  static const Undisturbed one;
  return one;
}

// What is told of the end, and what a checkpoint directory may hold whatever has happened.
void check_end(const TinyRun& run) {
  const Finished resumed = run.train();
  INFO(resumed.err);
  REQUIRE(resumed.exit_code == 0);
  CHECK(different_files(run.checkpoint(6), undisturbed().run.checkpoint(6)) ==
        std::vector<std::string>{});
  CHECK(run.checkpoints() == undisturbed().run.checkpoints());
  int64_t step = 0;
  for (const auto& row : run.metrics()) {
    if (row.contains("discarded") || row.contains("event") || !row.contains("loss")) continue;
    CHECK(row.at("step") == ++step);
  }
  CHECK(step == 6);
}

// Spoils one call of a run, looks at how that ended, and lets it go on.
template <typename Check>
void spoil(const std::string& kind, int64_t call, const Check& check) {
  INFO(kind << " at call " << call << " of " << undisturbed().calls);
  const TinyRun run(little);
  const Finished finished = normlab::test::run(spoilt(run, kind, call));
  INFO(finished.err);
  check(run, finished);
  check_end(run);
}

// Those by which a run begins, and some; all of them in the full tests.
template <typename Trial>
void at_calls(const Trial& trial) {
  if (SANITIZED != 0) {
    WARN("skipped: sanitizers want to be the first library");
    return;
  }
  constexpr int64_t kBeginning = 20;
  const int64_t apart = std::getenv("NORMLAB_EVERY_CALL") != nullptr ? 1 : 23;
  REQUIRE(undisturbed().calls > 100);
  for (int64_t call = 1; call <= undisturbed().calls; call += call < kBeginning ? 1 : apart) {
    trial(call);
  }
}

}  // namespace

TEST_CASE("faults: a run killed before a call goes on to the same bytes") {
  at_calls([](int64_t call) {
    spoil("kill", call, [](const TinyRun&, const Finished& finished) {
      CHECK(finished.exit_code == 128 + SIGKILL);
    });
  });
}

TEST_CASE("faults: a run killed when a call is half done goes on to the same bytes") {
  int kills = 0, calls = 0;
  at_calls([&](int64_t call) {
    ++calls;
    spoil("torn", call, [&](const TinyRun&, const Finished& finished) {
      // What writes nothing has no half.
      CHECK((finished.exit_code == 128 + SIGKILL || finished.exit_code == 0));
      kills += finished.exit_code != 0;
    });
  });
  CHECK(4 * kills >= calls);
}

TEST_CASE("faults: a disk that is full is told, and the run goes on when it is not") {
  at_calls([](int64_t call) {
    spoil("full", call, [](const TinyRun& run, const Finished& finished) {
      // Of a run that has ended the log's last line may be lost in silence.
      const bool ended = finished.err.find("finished at step 6") != std::string::npos;
      if (ended && finished.exit_code == 0) return;
      CHECK((finished.exit_code == kFailed || finished.exit_code == kInput));
      CHECK(finished.err.find(run.directory()) != std::string::npos);
    });
  });
}

TEST_CASE("faults: half a write is followed by the other half") {
  at_calls([](int64_t call) {
    spoil("short", call,
          [](const TinyRun&, const Finished& finished) { CHECK(finished.exit_code == 0); });
  });
}
