// A library that stands before the system's (LD_PRELOAD) and spoils one of the calls by which a
// program changes files below a directory.
//
// FAULTS_IN    the directory
// FAULTS_COUNT a file, in which the number of such calls stands when the program ends
// FAULTS_AT    the call that is spoilt, counted from 1
// FAULTS_KIND  kill: the process dies before it; torn: when half of what it writes is written;
//              short: half is written and said to be; full: it and all that follow say that the
//              disk is full
// FAULTS_CLOCK where it is set: the time of day jumps some days forth and back, call by call
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string_view>

namespace {

enum class Kind { none, kill, torn, cut_short, full };

template <typename Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

const char* variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

Kind kind_of(std::string_view name) {
  if (name == "kill") return Kind::kill;
  if (name == "torn") return Kind::torn;
  if (name == "short") return Kind::cut_short;
  if (name == "full") return Kind::full;
  return Kind::none;
}

std::atomic<long> calls = 0;

// What happens to the call that is about to be made.
Kind fault_of_call() {
  static const long place = std::atol(variable("FAULTS_AT"));
  static const Kind kind = kind_of(variable("FAULTS_KIND"));
  const long call = ++calls;
  if (place == 0 || call < place || (call > place && kind != Kind::full)) return Kind::none;
  if (kind == Kind::kill) std::raise(SIGKILL);
  return kind;
}

bool is_watched(const char* path) {
  static const std::string_view directory = variable("FAULTS_IN");
  return !directory.empty() && std::string_view(path).starts_with(directory);
}

bool is_watched(int descriptor) {
  char link[64], path[4096] = {};
  std::snprintf(link, sizeof(link), "/proc/self/fd/%d", descriptor);
  return readlink(link, path, sizeof(path) - 1) > 0 && is_watched(path);
}

bool refused(Kind kind) {
  if (kind != Kind::full) return false;
  errno = ENOSPC;
  return true;
}

// Up to six days ahead, each time others.
time_t jump() {
  static std::atomic<time_t> times = 0;
  const time_t time = ++times;
  return time * time % 7 * (24 * 60 * 60);
}

// Of a call that is made whole or not at all.
template <typename Call>
int whole(bool watched, const Call& call) {
  if (watched && refused(fault_of_call())) return -1;
  return call();
}

// Of a call that writes so many bytes.
template <typename Call>
ssize_t written(int descriptor, size_t size, const Call& call) {
  const Kind kind = is_watched(descriptor) ? fault_of_call() : Kind::none;
  if (refused(kind)) return -1;
  if (kind == Kind::none || size < 2) return call(size);
  const ssize_t half = call(size / 2);
  if (kind == Kind::torn) std::raise(SIGKILL);
  return half;
}

struct Counter {
  ~Counter() {
    const char* path = variable("FAULTS_COUNT");
    if (*path == '\0') return;
    if (std::FILE* file = std::fopen(path, "w")) {
      std::fprintf(file, "%ld\n", calls.load());
      std::fclose(file);
    }
  }
} counter;

}  // namespace

extern "C" {

ssize_t write(int descriptor, const void* bytes, size_t size) {
  static auto* const system_write = next<ssize_t(int, const void*, size_t)>("write");
  return written(descriptor, size,
                 [&](size_t count) { return system_write(descriptor, bytes, count); });
}

ssize_t pwrite(int descriptor, const void* bytes, size_t size, off_t place) {
  static auto* const system_pwrite = next<ssize_t(int, const void*, size_t, off_t)>("pwrite");
  return written(descriptor, size,
                 [&](size_t count) { return system_pwrite(descriptor, bytes, count, place); });
}

// Of the standard library's streams: a line and what was kept before it.
ssize_t writev(int descriptor, const iovec* parts, int count) {
  static auto* const system_writev = next<ssize_t(int, const iovec*, int)>("writev");
  const Kind kind = is_watched(descriptor) ? fault_of_call() : Kind::none;
  if (refused(kind)) return -1;
  if (kind == Kind::none || count < 1) return system_writev(descriptor, parts, count);
  const ssize_t half = system_writev(descriptor, parts, 1);
  if (kind == Kind::torn) std::raise(SIGKILL);
  return half;
}

int fsync(int descriptor) {
  static auto* const system_fsync = next<int(int)>("fsync");
  return whole(is_watched(descriptor), [&] { return system_fsync(descriptor); });
}

// A full disk lets itself be emptied: these die, and nothing else.
int unlink(const char* path) {
  static auto* const system_unlink = next<int(const char*)>("unlink");
  if (is_watched(path)) fault_of_call();
  return system_unlink(path);
}

int unlinkat(int directory, const char* path, int flags) {
  static auto* const system_unlinkat = next<int(int, const char*, int)>("unlinkat");
  if (is_watched(path) || is_watched(directory)) fault_of_call();
  return system_unlinkat(directory, path, flags);
}

int ftruncate(int descriptor, off_t size) {
  static auto* const system_ftruncate = next<int(int, off_t)>("ftruncate");
  return whole(is_watched(descriptor), [&] { return system_ftruncate(descriptor, size); });
}

// Of the standard library's streams.
FILE* fopen64(const char* path, const char* mode) {
  static auto* const system_fopen64 = next<FILE*(const char*, const char*)>("fopen64");
  const bool writes = std::strpbrk(mode, "wa+") != nullptr;
  if (writes && is_watched(path) && refused(fault_of_call())) return nullptr;
  return system_fopen64(path, mode);
}

int rename(const char* from, const char* to) {
  static auto* const system_rename = next<int(const char*, const char*)>("rename");
  return whole(is_watched(to), [&] { return system_rename(from, to); });
}

int mkdir(const char* path, mode_t mode) {
  static auto* const system_mkdir = next<int(const char*, mode_t)>("mkdir");
  return whole(is_watched(path), [&] { return system_mkdir(path, mode); });
}

int open(const char* path, int flags, ...) {
  static auto* const system_open = next<int(const char*, int, ...)>("open");
  std::va_list more;
  va_start(more, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(more, mode_t) : 0;
  va_end(more);
  return whole((flags & O_CREAT) != 0 && is_watched(path),
               [&] { return system_open(path, flags, mode); });
}

int clock_gettime(clockid_t clock, timespec* time) {
  static auto* const system_clock_gettime = next<int(clockid_t, timespec*)>("clock_gettime");
  static const bool jumps = *variable("FAULTS_CLOCK") != '\0';
  const int result = system_clock_gettime(clock, time);
  if (jumps && clock == CLOCK_REALTIME) time->tv_sec += jump();
  return result;
}

time_t time(time_t* out) {
  static auto* const system_time = next<time_t(time_t*)>("time");
  static const bool jumps = *variable("FAULTS_CLOCK") != '\0';
  const time_t now = system_time(nullptr) + (jumps ? jump() : 0);
  if (out != nullptr) *out = now;
  return now;
}

}  // extern "C"
