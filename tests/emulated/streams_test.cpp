// Streams of the CUDA backend in every order that they allow: what is ordered gives the same, what
// is not shows.
#include <vector>

#include "catch.h"
#include "kernels/ops.h"
#include "tests/emulated/runtime.h"

namespace normlab {
namespace {

constexpr int64_t kCount = 100;
constexpr int kTurns = 4;

// What a prefetcher forgets.
enum class Mistake { none, reads_too_early, overwrites_too_early };

// A buffer that a prefetch stream fills and the compute stream empties, in turns. Returns whether
// every turn has read its own numbers.
bool prefetches_right(Mistake mistake) {
  const auto ops = make_ops(Device::cuda, Precision::fp32);
  const Memory staged = ops->allocate_pinned(kTurns * kCount * 4);
  const Memory buffer = ops->allocate(kCount * 4), kept = ops->allocate(kTurns * kCount * 4);
  const Tensor target(buffer.data(), DType::f32, {1, kCount});
  const Tensor all(kept.data(), DType::f32, {kTurns, kCount});
  const Stream prefetch = ops->create_stream();
  const Event arrived = ops->create_event(), used = ops->create_event();
  auto* numbers = reinterpret_cast<float*>(staged.data());
  for (int64_t i = 0; i < kTurns * kCount; ++i) numbers[i] = static_cast<float>(i);
  for (int64_t turn = 0; turn < kTurns; ++turn) {
    if (mistake != Mistake::overwrites_too_early) ops->wait(prefetch, used);
    ops->upload_async(target, numbers + turn * kCount, prefetch);
    ops->record(arrived, prefetch);
    if (mistake != Mistake::reads_too_early) ops->wait({}, arrived);
    ops->copy(all.row_slice(turn, 1), target);
    ops->record(used, {});
  }
  std::vector<float> found(static_cast<size_t>(kTurns * kCount));
  ops->download(found.data(), all);
  for (int64_t i = 0; i < kTurns * kCount; ++i) {
    if (found[static_cast<size_t>(i)] != static_cast<float>(i)) return false;
  }
  return true;
}

// In how many of the orders.
int right_orders(Mistake mistake) {
  int right = 0;
  for (const auto order : {emulator::StreamOrder::oldest_first, emulator::StreamOrder::newest_first,
                           emulator::StreamOrder::shuffled}) {
    const TestStreamOrder chosen({order, 1});
    if (prefetches_right(mistake)) ++right;
  }
  return right;
}

}  // namespace

TEST_CASE("streams: a prefetcher with both its events is right in every order") {
  CHECK(right_orders(Mistake::none) == 3);
}

TEST_CASE("streams: an event that a prefetcher forgets shows in some order") {
  CHECK(right_orders(Mistake::reads_too_early) < 3);
  CHECK(right_orders(Mistake::overwrites_too_early) < 3);
}

}  // namespace normlab
