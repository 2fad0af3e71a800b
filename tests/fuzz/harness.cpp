#include "tests/fuzz/harness.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <new>
#include <thread>

#include "kernels/error.h"
#include "tests/fuzz/mutator.h"

namespace normlab::fuzz {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

constexpr int kThrew = 3;  // exit status of a process that wrote a reason

// What the process that reads tells the one that looks on.
struct Shared {
  std::atomic<uint64_t> number;  // of the file that is being read
  std::atomic<uint64_t> accepted;
  char reason[1024];
};

class SharedMemory {
 public:
  SharedMemory() {
    void* memory =
        mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(memory != MAP_FAILED, "memory that two processes share");
    shared_ = new (memory) Shared{};
  }
  ~SharedMemory() { munmap(shared_, sizeof(Shared)); }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  Shared* operator->() const { return shared_; }

 private:
  Shared* shared_;
};

// Why reading the file is a failure; "" where it is none.
std::string reason_of(const Format& format, const std::string& file, bool& accepted) {
  accepted = false;
  try {
    format.read(file);
    accepted = true;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) return std::string("not an input error: ") + error.what();
  } catch (const std::exception& error) {
    return std::string("not an Error: ") + error.what();
  } catch (...) {
    return "not an exception of the standard library";
  }
  return "";
}

[[noreturn]] void read_files(const Format& format, const Limits& limits, uint64_t begin,
                             double seconds, const SharedMemory& shared) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // not to outlive the one that looks on
  // Sanitizers keep memory of their own.
  const auto most = static_cast<rlim_t>(4 * limits.memory_bytes);
  const rlimit address_space = {most, most};
  if (SANITIZED == 0) setrlimit(RLIMIT_AS, &address_space);
  const rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  Mutator mutator(format.files, format.tokens);
  const Clock::time_point start = Clock::now();
  uint64_t number = begin;
  for (; number < limits.first + limits.files; ++number) {
    // All that is there as it is gets read, however long that takes.
    const bool is_seed = number < mutator.seeds();
    if (limits.seconds > 0 && !is_seed && seconds_since(start) > seconds) break;
    shared->number = number;
    bool accepted = false;
    const std::string reason = reason_of(format, mutator.file(limits.seed, number), accepted);
    if (!reason.empty()) {
      std::strncpy(shared->reason, reason.c_str(), sizeof(Shared::reason) - 1);
      _exit(kThrew);
    }
    if (accepted) ++shared->accepted;
  }
  shared->number = number;
  _exit(0);
}

int64_t resident_bytes(pid_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/statm");
  int64_t all = 0, resident = 0;
  file >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// Looks on until the process has ended; returns why it failed, or "".
std::string watch(pid_t process, const Limits& limits, const SharedMemory& shared) {
  const int64_t at_first = resident_bytes(process);
  uint64_t number = shared->number;
  Clock::time_point begin = Clock::now();
  int status = 0;
  std::string reason;
  while (waitpid(process, &status, WNOHANG) == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    if (shared->number != number) {
      number = shared->number;
      begin = Clock::now();
    }
    if (resident_bytes(process) - at_first > limits.memory_bytes) {
      reason = "took more than " + std::to_string(limits.memory_bytes >> 20) + " MiB";
    } else if (seconds_since(begin) > limits.seconds_per_file) {
      reason = "took more than " + std::to_string(limits.seconds_per_file) + " s";
    }
    if (!reason.empty()) {
      kill(process, SIGKILL);
      waitpid(process, &status, 0);
      return reason;
    }
  }
  if (WIFSIGNALED(status)) return "killed by signal " + std::to_string(WTERMSIG(status));
  if (WEXITSTATUS(status) == kThrew) return shared->reason;
  if (WEXITSTATUS(status) != 0) return "ended with " + std::to_string(WEXITSTATUS(status));
  return "";
}

}  // namespace

Report fuzz(const Format& format, const Limits& limits) {
  const SharedMemory shared;
  Mutator mutator(format.files, format.tokens);
  Report report;
  const Clock::time_point start = Clock::now();
  const uint64_t end = limits.first + limits.files;
  uint64_t begin = limits.first;
  while (begin < end && report.failures.size() < limits.failures) {
    const double left = limits.seconds - seconds_since(start);
    if (limits.seconds > 0 && left <= 0) break;
    shared->number = begin;
    const pid_t process = fork();
    check(process >= 0, "another process");
    if (process == 0) read_files(format, limits, begin, left, shared);
    const std::string reason = watch(process, limits, shared);
    const uint64_t number = shared->number;
    begin = reason.empty() ? end : number + 1;
    report.files = (reason.empty() ? number : number + 1) - limits.first;
    if (!reason.empty()) {
      report.failures.push_back({number, mutator.file(limits.seed, number), reason});
    }
  }
  report.accepted = shared->accepted;
  return report;
}

}  // namespace normlab::fuzz
