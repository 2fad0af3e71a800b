#include "tests/tools/process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <thread>

namespace normlab::test {
namespace {

[[noreturn]] void become(const std::vector<std::string>& command, const std::string& folder) {
  const auto redirect = [](const std::string& file, int descriptor) {
    dup2(open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644), descriptor);
  };
  redirect(folder + "/out", STDOUT_FILENO);
  redirect(folder + "/err", STDERR_FILENO);
  dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
  // No program outlives tests that are killed.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Waiting threads leave the cores to the other tests.
  setenv("OMP_WAIT_POLICY", "passive", 0);
  std::vector<char*> arguments;
  for (const std::string& argument : command)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  execvp(arguments[0], arguments.data());
  _exit(127);
}

}  // namespace

Process::Process(const std::vector<std::string>& command)
    : begin_(std::chrono::steady_clock::now()) {
  int ends[2];
  check(pipe2(ends, O_CLOEXEC) == 0, "a pipe can be made");
  id_ = fork();
  check(id_ >= 0, "a process can be forked");
  if (id_ == 0) become(command, folder_.path());
  // Closed by exec: until then it has the signal handlers of the tests.
  close(ends[1]);
  char nothing;
  while (read(ends[0], &nothing, 1) < 0 && errno == EINTR) continue;
  close(ends[0]);
}

Process::~Process() {
  if (ended_) return;
  signal(SIGKILL);
  collect(0);
}

void Process::collect(int options) {
  if (ended_) return;
  int status = 0;
  rusage usage = {};
  if (wait4(id_, &status, options, &usage) != id_) return;
  ended_ = true;
  finished_.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  finished_.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  finished_.peak_bytes = usage.ru_maxrss * int64_t{1024};
  finished_.out = content(folder_.path() + "/out");
  finished_.err = content(folder_.path() + "/err");
}

bool Process::running() {
  collect(WNOHANG);
  return !ended_;
}

void Process::signal(int number) {
  if (running()) kill(id_, number);
}

bool Process::awaits(int number) const {
  std::istringstream status(content("/proc/" + std::to_string(id_) + "/status"));
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("SigBlk:")) continue;
    return (std::stoull(line.substr(7), nullptr, 16) >> (number - 1)) & 1;
  }
  return false;
}

bool Process::wait_until(const std::function<bool()>& condition) {
  for (int millisecond = 0; millisecond < 60'000; ++millisecond) {
    if (condition()) return true;
    if (!running()) return condition();
    sleep_seconds(0.001);
  }
  return false;
}

Finished Process::wait() {
  collect(0);
  return finished_;
}

Finished run(const std::vector<std::string>& command) { return Process(command).wait(); }

std::string program(const std::string& name) {
  // Where tests/mutants has linked some programs anew.
  if (const char* folder = std::getenv("NORMLAB_PROGRAMS")) {
    const std::string there = std::string(folder) + "/" + name;
    if (std::filesystem::exists(there)) return there;
  }
  return std::string(BUILD_DIRECTORY) + "/" + name;
}

void sleep_seconds(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

int64_t count_lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

}  // namespace normlab::test
