// Words for people (stderr, log.txt) and numbers for machines (metrics.jsonl) while a run goes on.
#pragma once

#include <chrono>
#include <fstream>
#include <string>

namespace normlab {

// Lines to stderr, and to log.txt once a file is open. One live progress line on a terminal, plain
// lines elsewhere.
class Log {
 public:
  explicit Log(bool terminal) : terminal_(terminal) {}
  // Says nothing from now on, and writes nothing: of a rank that is not the first.
  void silence() { silent_ = true; }
  // Throws an Error where the file cannot be opened to append.
  void open(const std::string& path);
  void say(const std::string& line);
  void warn(const std::string& line) { say("warning: " + line); }
  // To log.txt alone.
  void note(const std::string& line);
  // Replaces the live line; elsewhere printed at most every few seconds. An important one stays on
  // the terminal, and in log.txt.
  enum class Weight { passing, important };
  void progress(const std::string& line, Weight weight);

 private:
  void clear_live_line();

  bool terminal_;
  bool silent_ = false;
  bool live_ = false;
  std::chrono::steady_clock::time_point last_{};
  std::ofstream file_;
};

// "3h 05m", "4m 10s", "12s".
std::string duration_text(double seconds);
// "1,234,567".
std::string count_text(long long value);
// "1.5 GiB".
std::string bytes_text(long long bytes);

// Whether stderr is a terminal.
bool stderr_is_terminal();

}  // namespace normlab
