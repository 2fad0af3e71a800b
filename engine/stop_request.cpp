#include "engine/stop_request.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <limits>
#include <thread>

#include "engine/log.h"
#include "kernels/error.h"

namespace normlab {
namespace {

// Process-wide, as signals are.
std::atomic<int> received = 0;
// Milliseconds of a clock that nobody sets.
std::atomic<int64_t> stop_time = std::numeric_limits<int64_t>::max();

template <typename Clock>
int64_t milliseconds_of() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now().time_since_epoch())
      .count();
}

sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaddset(&set, signal);
  return set;
}

[[noreturn]] void wait_for_signals() {
  const sigset_t set = stop_signals();
  while (true) {
    int signal = 0;
    if (sigwait(&set, &signal) != 0) continue;
    if (signal == SIGINT && received == SIGINT) {
      std::signal(SIGINT, SIG_DFL);
      pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
      std::raise(SIGINT);
    }
    received = signal;
  }
}

}  // namespace

// A thread that waits, and not a handler: libraries of generated code have been seen to point the
// stack pointer where a signal's frame overwrites the heap (oneDNN 2.6 on AVX-512).
void catch_stop_signals() {
  const sigset_t set = stop_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::thread(wait_for_signals).detach();
}

std::string stop_before_job_ends(const char* end_time, double seconds_before) {
  if (end_time == nullptr || seconds_before == 0) return "";
  int64_t end = 0;
  const char* last = end_time + std::strlen(end_time);
  const auto [parsed, error] = std::from_chars(end_time, last, end);
  if (error != std::errc() || parsed != last) {
    return std::string("SLURM_JOB_END_TIME = ") + end_time +
           " is no time: the end of the job is not looked at";
  }
  end = std::min(end, int64_t{1} << 40);  // of a job without end
  const int64_t left_milliseconds = 1000 * end - milliseconds_of<std::chrono::system_clock>();
  const double left = static_cast<double>(left_milliseconds) / 1000;
  const std::string margin = duration_text(seconds_before) + ", checkpoint.seconds_before_end";
  if (left <= seconds_before) {
    return "the Slurm job ends in less than " + margin + ": its end is not looked at";
  }
  stop_time = milliseconds_of<std::chrono::steady_clock>() + left_milliseconds -
              std::llround(1000 * seconds_before);
  return "the Slurm job ends in " + duration_text(left) + ": a stop comes before, by " + margin;
}

bool stop_requested() {
  return received != 0 || milliseconds_of<std::chrono::steady_clock>() >= stop_time;
}

std::string stop_signal_name() {
  switch (received) {
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    case SIGUSR1:
      return "SIGUSR1";
  }
  return stop_requested() ? "the end of the Slurm job's time" : "";
}

void stop_where_requested(const std::string& what) {
  if (!stop_requested()) return;
  throw Error(ErrorKind::stopped, "stopped by " + stop_signal_name() + " while " + what +
                                      "; run the same command again to go on");
}

}  // namespace normlab
