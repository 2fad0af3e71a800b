// How the optimizer's state is shared out among ranks.
#include "engine/share.h"

#include "catch.h"
#include "engine/communicator.h"
#include "kernels/error.h"
#include "tests/engine/small_model.h"

using namespace normlab;
using namespace normlab::test;

TEST_CASE("own_part: parts are equal, the rest is the last rank's, and together they are all") {
  for (const int64_t n : {0, 1, 63, 64, 640, 1000, 70'001}) {
    for (const int ranks : {1, 2, 3, 7}) {
      int64_t begin = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const OwnPart part = own_part(n, rank, ranks);
        CHECK(part.begin == begin);
        if (rank < ranks - 1) CHECK((part.end - part.begin) == n / ranks / 64 * 64);
        begin = part.end;
      }
      CHECK(begin == n);
    }
  }
}

TEST_CASE("share: ranks' pieces together are every parameter once") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    const SmallModel small(small_config(family), Purpose::training);
    const auto& parameters = small.model.parameters();
    const int64_t all = parameters.back().logical_offset + parameters.back().value.elements();
    for (const int ranks : {1, 2, 3, 5}) {
      std::vector<int> seen(static_cast<size_t>(all), 0);
      int64_t arena = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const std::vector<Range> share = share_of(small.model.buckets(), rank, ranks);
        arena += total(share);
        const std::vector<Piece> pieces = pieces_of(parameters, share);
        for (const Piece& piece : pieces) {
          CHECK(piece.packed >= 0);
          CHECK(piece.packed + piece.count <= total(share));
          CHECK(packed_place(pieces, piece) == piece.packed);
          for (int64_t i = 0; i < piece.count; ++i) ++seen[static_cast<size_t>(piece.logical + i)];
        }
        const std::vector<Range> ranges = parse_ranges(ranges_text(pieces));
        int64_t count = 0;
        for (const Piece& piece : pieces) count += piece.count;
        CHECK(total(ranges) == count);
      }
      CHECK(arena == small.model.values().elements());
      CHECK(std::count(seen.begin(), seen.end(), 1) == all);
    }
  }
}

TEST_CASE("share: a piece's packed place is where the arena has it") {
  const SmallModel small(small_config(Family::llama), Purpose::training);
  const std::vector<Range> share = share_of(small.model.buckets(), 1, 2);
  for (const Piece& piece : pieces_of(small.model.parameters(), share)) {
    int64_t arena = piece.packed;  // by walking the ranges
    for (const Range& range : share) {
      if (arena < range.count()) {
        arena += range.begin;
        break;
      }
      arena -= range.count();
    }
    bool found = false;
    for (const Parameter& parameter : small.model.parameters()) {
      const int64_t within = piece.logical - parameter.logical_offset;
      if (within < 0 || within >= parameter.value.elements()) continue;
      found = true;
      CHECK(parameter.arena_offset + within == arena);
    }
    CHECK(found);
  }
}

TEST_CASE("share: a text of ranges is read back, and anything else refused") {
  CHECK(parse_ranges("").empty());
  const std::vector<Range> two = parse_ranges("0:128,256:300");
  REQUIRE(two.size() == 2);
  CHECK(two[1].begin == 256);
  CHECK(two[1].end == 300);
  for (const char* wrong : {"x", "1", "1:", "1:1", "5:3", "0:4,2:6", "0:4;5:6", "-1:2", "0:4 ",
                            "0:99999999999999999999"}) {
    INFO(wrong);
    CHECK_THROWS_AS(parse_ranges(wrong), Error);
  }
}
