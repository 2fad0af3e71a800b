// Streams and events of the CUDA backend.
#include <cstring>
#include <vector>

#include "catch.h"
#include "kernels/ops.h"

namespace normlab {
namespace {

constexpr int64_t kCount = 1 << 16;

}  // namespace

TEST_CASE("CUDA streams: a prefetch that is waited for arrives, in turns over one buffer") {
  const auto ops = make_ops(Device::cuda, Precision::fp32);
  const Memory staged = ops->allocate_pinned(kCount * 4);
  const Memory buffer = ops->allocate(kCount * 4), kept = ops->allocate(3 * kCount * 4);
  const Tensor target(buffer.data(), DType::f32, {1, kCount});
  const Tensor all(kept.data(), DType::f32, {3, kCount});
  const Stream prefetch = ops->create_stream();
  const Event arrived = ops->create_event(), used = ops->create_event();
  auto* numbers = reinterpret_cast<float*>(staged.data());
  for (int turn = 0; turn < 3; ++turn) {
    for (int64_t i = 0; i < kCount; ++i) numbers[i] = static_cast<float>(turn * kCount + i);
    // The first time nothing has been recorded, and nothing is waited for.
    ops->wait(prefetch, used);
    ops->upload_async(target, numbers, prefetch);
    ops->record(arrived, prefetch);
    ops->wait({}, arrived);
    ops->copy(all.row_slice(turn, 1), target);
    ops->record(used, {});
    // Until then the pinned memory belongs to the copy.
    ops->synchronize();
  }
  std::vector<float> found(static_cast<size_t>(3 * kCount));
  ops->download(found.data(), all);
  for (int64_t i = 0; i < 3 * kCount; ++i) {
    if (found[static_cast<size_t>(i)] != static_cast<float>(i)) FAIL("element " << i);
  }
}

TEST_CASE("CUDA streams: synchronize waits for all of them") {
  const auto ops = make_ops(Device::cuda, Precision::fp32);
  const Memory staged = ops->allocate_pinned(kCount * 4);
  const Memory buffer = ops->allocate(kCount * 4);
  const Tensor target(buffer.data(), DType::f32, {1, kCount});
  std::memset(staged.data(), 0, kCount * 4);
  ops->zero(target);
  ops->synchronize();
  auto* numbers = reinterpret_cast<float*>(staged.data());
  numbers[kCount - 1] = 5;
  ops->upload_async(target, numbers, ops->create_stream());
  ops->synchronize();
  // Too late to matter.
  numbers[kCount - 1] = 6;
  std::vector<float> found(kCount);
  ops->download(found.data(), target);
  CHECK(found.back() == 5);
}

}  // namespace normlab
