#include "engine/job_ledger.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/log.h"
#include "kernels/error.h"

namespace normlab {
namespace {

constexpr const char* kEnding = "ending the job";

double clock_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "unknown host";
}

}  // namespace

JobLedger::JobLedger(int rank, int ranks) : rank_(rank), ranks_(ranks) {
  own_.host = host_name();
  own_.process = getpid();
  own_.since = clock_seconds();
  own_.work = "starting";
}

JobLedger::~JobLedger() {
  if (file_ >= 0) ::close(file_);
}

void JobLedger::close() {
  if (file_ < 0) return;
  ::close(file_);
  file_ = -1;
  unlink(path_of(rank_).c_str());
  rmdir(directory_.c_str());  // where this was the last
}

std::string JobLedger::path_of(int rank) const {
  char name[32];
  std::snprintf(name, sizeof(name), "/rank-%04d", rank);
  return directory_ + name;
}

void JobLedger::keep_in(const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  directory_ = directory;
  const std::string path = path_of(rank_);
  file_ = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file_ < 0) {
    throw Error(path + ": cannot be written (" + std::strerror(errno) +
                "). See to its disk and permissions, or choose another run.directory");
  }
  write();
}

void JobLedger::set_work(const std::string& work) {
  own_.work = work;
  own_.since = clock_seconds();
  write();
}

void JobLedger::enter(const std::string& operation) {
  ++own_.operations;
  own_.operation = operation;
  own_.inside = true;
  own_.since = clock_seconds();
  write();
}

void JobLedger::leave() {
  own_.inside = false;
  own_.since = clock_seconds();
  write();
}

void JobLedger::announce_end() { set_work(kEnding); }

bool JobLedger::end_announced() const {
  for (int rank = 0; !directory_.empty() && rank < ranks_; ++rank) {
    Entry entry;
    if (rank != rank_ && read(rank, entry) && entry.work == kEnding) return true;
  }
  return false;
}

// One write of one length, so that a reader sees a whole line. What cannot be written is no reason
// to end a run that goes well.
void JobLedger::write() {
  if (file_ < 0) return;
  char since[32];
  std::snprintf(since, sizeof(since), "%.3f", own_.since);
  std::string line = std::to_string(own_.process) + "\t" + std::to_string(own_.operations) + "\t" +
                     (own_.inside ? "1" : "0") + "\t" + since + "\t" + own_.host + "\t" +
                     own_.operation + "\t" + own_.work;
  constexpr size_t kLineBytes = 512;
  line.resize(kLineBytes - 1, ' ');
  line += '\n';
  [[maybe_unused]] const ssize_t written = pwrite(file_, line.data(), line.size(), 0);
}

bool JobLedger::read(int rank, Entry& entry) const {
  std::ifstream file(path_of(rank));
  std::string line;
  if (!std::getline(file, line)) return false;
  line.erase(line.find_last_not_of(' ') + 1);
  std::istringstream fields(line);
  std::string process, operations, inside, since;
  for (std::string* field : {&process, &operations, &inside, &since, &entry.host}) {
    if (!std::getline(fields, *field, '\t')) return false;
  }
  std::getline(fields, entry.operation, '\t');
  std::getline(fields, entry.work, '\t');
  entry.process = std::atoll(process.c_str());
  entry.operations = std::atoll(operations.c_str());
  entry.inside = inside == "1";
  entry.since = std::atof(since.c_str());
  return true;
}

// A process of this machine that is not there any more, or only waits for its parent to notice.
bool JobLedger::is_gone(const Entry& entry) const {
  if (entry.host != own_.host || entry.process <= 0) return false;
  if (kill(static_cast<pid_t>(entry.process), 0) != 0 && errno == ESRCH) return true;
  std::ifstream file("/proc/" + std::to_string(entry.process) + "/stat");
  std::string stat;
  if (!std::getline(file, stat)) return false;
  const size_t name_end = stat.rfind(')');
  return name_end != std::string::npos && name_end + 2 < stat.size() && stat[name_end + 2] == 'Z';
}

std::vector<int> JobLedger::gone() const {
  std::vector<int> ranks;
  if (directory_.empty()) return ranks;
  for (int rank = 0; rank < ranks_; ++rank) {
    Entry entry;
    if (rank != rank_ && read(rank, entry) && is_gone(entry)) ranks.push_back(rank);
  }
  return ranks;
}

std::string JobLedger::report() const {
  std::string text;
  for (int rank = 0; rank < ranks_; ++rank) {
    text += (rank == 0 ? "rank " : "; rank ") + std::to_string(rank);
    Entry entry = own_;
    if (rank != rank_ && (directory_.empty() || !read(rank, entry))) {
      text += ": nothing is known of it";
      continue;
    }
    text += " on " + entry.host + " (process " + std::to_string(entry.process) + ")";
    if (is_gone(entry)) text += " is gone";
    text += ": ";
    if (entry.inside) {
      text += "waits in operation " + std::to_string(entry.operations) + ", " + entry.operation;
    } else if (entry.operations > 0) {
      text += "after operation " + std::to_string(entry.operations) + ", " + entry.operation;
    } else {
      text += "before its first operation";
    }
    text += " (" + entry.work + "), nothing new from it for " +
            duration_text(clock_seconds() - entry.since);
  }
  return text;
}

}  // namespace normlab
