#include "engine/log.h"

#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <iostream>

#include "kernels/error.h"

namespace normlab {

bool stderr_is_terminal() { return isatty(STDERR_FILENO) == 1; }

void Log::open(const std::string& path) {
  if (silent_) return;
  file_.open(path, std::ios::app);
  if (file_.is_open()) return;
  throw Error(path + ": cannot be written (" + std::strerror(errno) +
              "). See to its disk and permissions, or choose another run.directory");
}

void Log::clear_live_line() {
  if (!live_) return;
  std::cerr << "\r\033[K";
  live_ = false;
}

void Log::say(const std::string& line) {
  if (silent_) return;
  clear_live_line();
  std::cerr << line << "\n" << std::flush;
  note(line);
}

void Log::note(const std::string& line) {
  if (!file_.is_open()) return;
  const std::time_t now = std::time(nullptr);
  char stamp[32];
  std::strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ ", std::gmtime(&now));
  file_ << stamp << line << "\n" << std::flush;
}

void Log::progress(const std::string& line, Weight weight) {
  if (silent_) return;
  const auto now = std::chrono::steady_clock::now();
  if (weight == Weight::important) note(line);
  if (terminal_) {
    std::cerr << "\r\033[K" << line << std::flush;
    live_ = true;
    if (weight == Weight::important) {
      std::cerr << "\n" << std::flush;
      live_ = false;
    }
    return;
  }
  constexpr std::chrono::seconds kEvery{5};
  if (weight == Weight::passing && now - last_ < kEvery) return;
  last_ = now;
  std::cerr << line << "\n" << std::flush;
}

std::string duration_text(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "?";
  const auto whole = static_cast<long long>(std::llround(seconds));
  char text[64];
  if (whole >= 3600) {
    std::snprintf(text, sizeof(text), "%lldh %02lldm", whole / 3600, whole / 60 % 60);
  } else if (whole >= 60) {
    std::snprintf(text, sizeof(text), "%lldm %02llds", whole / 60, whole % 60);
  } else {
    std::snprintf(text, sizeof(text), "%llds", whole);
  }
  return text;
}

std::string count_text(long long value) {
  std::string digits = std::to_string(value);
  const size_t sign = value < 0 ? 1 : 0;
  for (size_t i = digits.size(); i > sign + 3;) digits.insert(i -= 3, ",");
  return digits;
}

std::string bytes_text(long long bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(units)) {
    value /= 1024;
    ++unit;
  }
  char text[64];
  std::snprintf(text, sizeof(text), unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
  return text;
}

}  // namespace normlab
