#include "data/mapped_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <string_view>

namespace normlab {
namespace {

// Never taken out of the list, which a signal's handler walks through.
struct Entry {
  std::atomic<const std::byte*> begin;  // null: unmapped
  size_t size;
  std::string path;
  struct stat status;  // when it was mapped
  Entry* next;
};

std::atomic<Entry*> first = nullptr;

// Of the process, for the handler.
std::string& program_name() {
  static std::string name;
  return name;
}

void say(std::string_view text) {
  // There is nobody to tell where this fails.
  [[maybe_unused]] const ssize_t count = write(STDERR_FILENO, text.data(), text.size());
}

// Calls nothing but what a handler may.
void end_by_lost_file(int, siginfo_t* info, void*) {
  const auto* const address = static_cast<const std::byte*>(info->si_addr);
  std::string_view path = "a file in memory";
  for (const Entry* entry = first; entry != nullptr; entry = entry->next) {
    const std::byte* const begin = entry->begin;
    if (begin != nullptr && address >= begin && address < begin + entry->size) path = entry->path;
  }
  say(program_name());
  say(": ");
  say(path);
  say(": cannot be read any more (it became shorter, or its disk fails). Restore it and run the "
      "same command again\n");
  _exit(1);
}

bool same_time(const timespec& one, const timespec& other) {
  return one.tv_sec == other.tv_sec && one.tv_nsec == other.tv_nsec;
}

}  // namespace

void remember_mapping(std::span<const std::byte> bytes, const std::string& path, int descriptor) {
  auto* const entry = new Entry{bytes.data(), bytes.size(), path, {}, first};
  fstat(descriptor, &entry->status);
  while (!first.compare_exchange_weak(entry->next, entry)) {
  }
}

void forget_mapping(const std::byte* begin) {
  for (Entry* entry = first; entry != nullptr; entry = entry->next) {
    if (entry->begin == begin) entry->begin = nullptr;
  }
}

void explain_lost_files(const std::string& program) {
  program_name() = program;
  struct sigaction action = {};
  action.sa_sigaction = end_by_lost_file;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, nullptr);
}

std::vector<std::string> files_changed_underneath() {
  std::vector<std::string> changed;
  for (const Entry* entry = first; entry != nullptr; entry = entry->next) {
    struct stat now = {};
    if (entry->begin == nullptr || stat(entry->path.c_str(), &now) != 0) continue;
    const struct stat& then = entry->status;
    if (now.st_dev != then.st_dev || now.st_ino != then.st_ino) continue;  // another file
    if (now.st_size == then.st_size && same_time(now.st_mtim, then.st_mtim)) continue;
    changed.push_back(entry->path);
  }
  return changed;
}

}  // namespace normlab
