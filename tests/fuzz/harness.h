// Gives a reader broken files, in a process of its own, and looks on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/fuzz/format.h"

namespace normlab::fuzz {

struct Limits {
  uint64_t seed = 1;
  uint64_t first = 0;  // number of the first file; file i is a function of seed, i and the corpus
  uint64_t files = 100'000;
  double seconds = 0;                       // stop after so long; 0: no limit
  double seconds_per_file = 10;             // beyond it is a hang
  int64_t memory_bytes = int64_t{1} << 30;  // more than at the beginning, resident
  size_t failures = 10;                     // stop after so many
};

struct Failure {
  uint64_t number = 0;  // of the file
  std::string file;     // its bytes
  std::string reason;   // "killed by signal 11", "took more than 10 s", "std::bad_alloc"
};

struct Report {
  uint64_t files = 0;     // that were read
  uint64_t accepted = 0;  // of them
  std::vector<Failure> failures;
};

// A reader fails where it does not return, ends its process, takes too long or too much memory, or
// throws anything but an input Error. It goes on with the next file.
Report fuzz(const Format& format, const Limits& limits);

}  // namespace normlab::fuzz
