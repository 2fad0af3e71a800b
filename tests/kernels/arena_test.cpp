#include "kernels/arena.h"

#include <cstdint>
#include <vector>

#include "catch.h"

namespace normlab {
namespace {

// A layout with a stack within it; the addresses relative to the first.
std::vector<Tensor> lay_out(Arena& arena) {
  std::vector<Tensor> tensors;
  tensors.push_back(arena.take(DType::f32, {3, 5}));
  const Arena::Mark mark = arena.mark();
  tensors.push_back(arena.take(DType::f64, {100}));
  tensors.push_back(arena.take(DType::f32, {7, 11, 2}));
  arena.release(mark);
  tensors.push_back(arena.take(DType::i32, {1}));
  return tensors;
}

struct Block {
  std::vector<std::byte> memory;
  explicit Block(int64_t bytes) : memory(static_cast<size_t>(bytes + Arena::kAlignmentBytes)) {}
  std::byte* aligned() {
    const auto address = reinterpret_cast<uintptr_t>(memory.data());
    return memory.data() + (256 - address % 256) % 256;
  }
};

TEST_CASE("Arena: a measuring pass counts what a taking pass takes") {
  Arena measure;
  CHECK(measure.measures());
  for (const Tensor& tensor : lay_out(measure)) CHECK(tensor.data == nullptr);
  CHECK(measure.used_bytes() == 512);
  CHECK(measure.peak_bytes() == 256 + 1024 + 768);

  Block block(measure.peak_bytes());
  Arena take(block.aligned(), measure.peak_bytes());
  CHECK(!take.measures());
  CHECK_NOTHROW(lay_out(take));
  CHECK(take.used_bytes() == measure.used_bytes());
  CHECK(take.peak_bytes() == measure.peak_bytes());
}

TEST_CASE("Arena: slices are aligned, do not overlap, and come again after release") {
  Block block(4096);
  Arena arena(block.aligned(), 4096);
  const std::vector<Tensor> tensors = lay_out(arena);
  for (const Tensor& tensor : tensors) {
    CHECK(reinterpret_cast<uintptr_t>(tensor.data) % Arena::kAlignmentBytes == 0);
    CHECK(tensor.contiguous());
  }
  CHECK(tensors[1].data >= tensors[0].data + 3 * 5 * 4);
  CHECK(tensors[2].data >= tensors[1].data + 100 * 8);
  CHECK(tensors[3].data == tensors[1].data);
}

TEST_CASE("Arena: taking more than was measured is refused") {
  Block block(1024);
  Arena arena(block.aligned(), 1024);
  arena.take(DType::f32, {192});
  CHECK_THROWS_AS(arena.take(DType::f32, {65}), Error);
  CHECK_NOTHROW(arena.take(DType::f32, {64}));
  CHECK_THROWS_AS(arena.take(DType::f32, {1}), Error);
}

TEST_CASE("Arena: a mark from the future is refused") {
  Arena arena;
  arena.take(DType::f32, {64});
  const Arena::Mark mark = arena.mark();
  arena.release(0);
  CHECK_THROWS_AS(arena.release(mark), Error);
  CHECK_THROWS_AS(arena.release(-1), Error);
}

}  // namespace
}  // namespace normlab
