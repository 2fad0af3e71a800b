// The part of a model's flat arenas that one rank updates (ZeRO stage 1, Rajbhandari et al. 2020)
// or saves.
#pragma once

#include <string>
#include <vector>

#include "models/parameter.h"

namespace normlab {

// Elements [begin, end) of a flat arena, or of all parameters without padding.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t count() const { return end - begin; }
};
int64_t total(const std::vector<Range>& ranges);

// Of every bucket a rank's own_part(), in the arena's order. Of one rank: everything.
std::vector<Range> share_of(const std::vector<Bucket>& buckets, int rank, int ranks);

// A stretch of a parameter that lies in a share.
struct Piece {
  int64_t logical = 0;  // place among all parameters without padding
  int64_t packed = 0;   // place among the share's ranges put one after the other
  int64_t count = 0;
};
// In the order of the parameter list, which is that of `logical`.
std::vector<Piece> pieces_of(const std::vector<Parameter>& parameters,
                             const std::vector<Range>& share);

// Where a piece that lies within `pieces` has its packed place there.
int64_t packed_place(const std::vector<Piece>& pieces, const Piece& piece);

// "0:128,256:300", the logical ranges of pieces, joined where they follow each other; and back.
std::string ranges_text(const std::vector<Piece>& pieces);
// Throws Error where the text is no list of ascending ranges.
std::vector<Range> parse_ranges(const std::string& text);

}  // namespace normlab
