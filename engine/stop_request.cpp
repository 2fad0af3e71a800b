#include "engine/stop_request.h"

#include <pthread.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "kernels/error.h"

namespace normlab {
namespace {

// Process-wide, as signals are.
std::atomic<int> received = 0;

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

// A thread that waits, and not a handler: oneDNN's generated products point the stack pointer where
// a signal's frame overwrites the heap (seen with 2.6 on AVX-512: one stop in a hundred crashed).
void catch_stop_signals() {
  const sigset_t set = stop_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::thread(wait_for_signals).detach();
}

bool stop_requested() { return received != 0; }

std::string stop_signal_name() {
  switch (received) {
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    case SIGUSR1:
      return "SIGUSR1";
  }
  return {};
}

void stop_where_requested(const std::string& what) {
  if (!stop_requested()) return;
  throw Error(ErrorKind::stopped, "stopped by " + stop_signal_name() + " while " + what +
                                      "; run the same command again to go on");
}

}  // namespace normlab
