// What the tests of the emulator share: the report of a kernel that is wrong on purpose, and what a
// kernel gives in every order of threads.
#pragma once

#include <string>
#include <vector>

#include "catch.h"
#include "kernels/cuda/launch.h"

namespace normlab {

// The report of a failing launch, or "".
template <typename Run>
std::string report(const Run& run) {
  try {
    run();
  } catch (const emulator::Failure& failure) {
    return failure.what();
  }
  return {};
}

inline void contains(const std::string& text, const std::string& part) {
  INFO(text);
  INFO(part);
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
}

// Blocks of 64 threads with 4 KiB of shared memory.
constexpr int64_t kSharedBytes = 4096;
constexpr LaunchShape kOneBlock{1, 64, kSharedBytes};
constexpr LaunchShape kOneWarp{1, 32, kSharedBytes};

// What run() gives in each order of threads.
template <typename Run>
auto in_every_order(const Run& run) {
  std::vector<decltype(run())> results;
  for (const emulator::Order order : {emulator::Order::forward, emulator::Order::backward,
                                      emulator::Order::shuffled, emulator::Order::run_ahead}) {
    emulator::configure({order, 17});
    results.push_back(run());
  }
  emulator::configure({});
  return results;
}

}  // namespace normlab
