#include "engine/log.h"

#include <iostream>
#include <limits>
#include <sstream>

#include "catch.h"
#include "engine/files.h"
#include "temporary_folder.h"

using namespace normlab;
using namespace normlab::test;

namespace {

// What stderr gets while it lives.
class CapturedStderr {
 public:
  CapturedStderr() : before_(std::cerr.rdbuf(text_.rdbuf())) {}
  ~CapturedStderr() { std::cerr.rdbuf(before_); }
  CapturedStderr(const CapturedStderr&) = delete;
  CapturedStderr& operator=(const CapturedStderr&) = delete;
  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
  std::streambuf* before_;
};

// A run's lines: three steps, of which the third is important, a warning, one more step.
std::string lines_of_a_run(bool terminal) {
  const CapturedStderr captured;
  Log log(terminal);
  log.progress("step 1", Log::Weight::passing);
  log.progress("step 2", Log::Weight::passing);
  log.progress("step 3", Log::Weight::important);
  log.progress("step 4", Log::Weight::passing);
  log.warn("hot");
  return captured.text();
}

}  // namespace

TEST_CASE("log: on a terminal progress is one live line that other lines do not tear") {
  const std::string clear = "\r\033[K";
  CHECK(lines_of_a_run(true) == clear + "step 1" + clear + "step 2" + clear + "step 3\n" + clear +
                                    "step 4" + clear + "warning: hot\n");
}

TEST_CASE(
    "log: elsewhere there are plain lines, at most one in a few seconds but for important ones") {
  CHECK(lines_of_a_run(false) == "step 1\nstep 3\nwarning: hot\n");
}

TEST_CASE("log: log.txt has what was said and what is important, with times, and is appended to") {
  const TemporaryFolder folder;
  const std::string path = folder.write("log.txt", "before\n");
  const CapturedStderr captured;
  Log log(true);
  log.say("not yet open");
  log.open(path);
  log.progress("step 1", Log::Weight::passing);
  log.progress("step 2", Log::Weight::important);
  log.say("done");
  std::istringstream lines(read_file(path));
  std::string line;
  std::getline(lines, line);
  CHECK(line == "before");
  for (const char* expected : {"step 2", "done"}) {
    std::getline(lines, line);
    CHECK(line.substr(0, 2) == "20");
    CHECK(line.substr(4, 1) + line.substr(10, 1) + line.substr(19) ==
          std::string("-TZ ") + expected);
  }
  CHECK(!std::getline(lines, line));
}

TEST_CASE("log: a note goes to log.txt alone") {
  const TemporaryFolder folder;
  const CapturedStderr captured;
  Log log(false);
  log.note("nowhere");
  log.open(folder.path() + "/log.txt");
  log.note("ended");
  CHECK(captured.text().empty());
  CHECK(read_file(folder.path() + "/log.txt").substr(19) == "Z ended\n");
}

TEST_CASE("log: a log.txt that cannot be written is an error with its path and reason") {
  const TemporaryFolder folder;
  Log log(false);
  std::string message;
  try {
    log.open(folder.path());
  } catch (const Error& error) {
    message = error.what();
  }
  CHECK(message.starts_with(folder.path() + ": cannot be written (Is a directory)"));
}

TEST_CASE("log: durations, counts and bytes as people write them") {
  CHECK(duration_text(12.4) == "12s");
  CHECK(duration_text(250) == "4m 10s");
  CHECK(duration_text(3 * 3600 + 5 * 60 + 59) == "3h 05m");
  CHECK(duration_text(-1) == "?");
  CHECK(duration_text(std::numeric_limits<double>::quiet_NaN()) == "?");
  CHECK(count_text(0) == "0");
  CHECK(count_text(999) == "999");
  CHECK(count_text(1000) == "1,000");
  CHECK(count_text(-1234567) == "-1,234,567");
  CHECK(bytes_text(512) == "512 B");
  CHECK(bytes_text(1536LL << 20) == "1.5 GiB");
}
