// Programs of the build, run as their users run them.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "tests/engine/temporary_folder.h"

namespace normlab::test {

struct Finished {
  int exit_code = 0;  // 128 + signal where a signal ended it, as a shell says
  std::string out;
  std::string err;
  double seconds = 0;
  int64_t peak_bytes = 0;  // of resident memory
};

// A running program; it is killed where the test ends before it does.
class Process {
 public:
  // `command`: the path of a program (or a name on PATH), then its arguments.
  explicit Process(const std::vector<std::string>& command);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t id() const { return id_; }
  bool running();
  void signal(int number);
  // Whether it has come to the point where it waits for this signal.
  bool awaits(int number) const;
  // Asks every millisecond, until true, or the program has ended, or a minute has passed.
  bool wait_until(const std::function<bool()>& condition);
  Finished wait();

 private:
  void collect(int options);

  TemporaryFolder folder_;  // of its output
  pid_t id_ = -1;
  bool ended_ = false;
  Finished finished_;
  std::chrono::steady_clock::time_point begin_;
};

// Runs it to its end.
Finished run(const std::vector<std::string>& command);
// build/NAME.
std::string program(const std::string& name);
void sleep_seconds(double seconds);

// All bytes of a file; "" where there is none.
std::string content(const std::string& path);
int64_t count_lines(const std::string& text);

}  // namespace normlab::test
