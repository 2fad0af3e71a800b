#include "engine/share.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "engine/communicator.h"
#include "kernels/error.h"

namespace normlab {

int64_t total(const std::vector<Range>& ranges) {
  return std::accumulate(ranges.begin(), ranges.end(), int64_t{0},
                         [](int64_t sum, const Range& range) { return sum + range.count(); });
}

std::vector<Range> share_of(const std::vector<Bucket>& buckets, int rank, int ranks) {
  std::vector<Range> share;
  for (const Bucket& bucket : buckets) {
    const OwnPart own = own_part(bucket.end - bucket.begin, rank, ranks);
    share.push_back({bucket.begin + own.begin, bucket.begin + own.end});
  }
  return share;
}

std::vector<Piece> pieces_of(const std::vector<Parameter>& parameters,
                             const std::vector<Range>& share) {
  std::vector<Piece> pieces;
  for (const Parameter& parameter : parameters) {
    const int64_t first = parameter.arena_offset;
    const int64_t last = first + parameter.value.elements();
    int64_t packed = 0;
    for (const Range& range : share) {
      const int64_t begin = std::max(first, range.begin);
      const int64_t end = std::min(last, range.end);
      if (begin < end) {
        pieces.push_back(
            {parameter.logical_offset + begin - first, packed + begin - range.begin, end - begin});
      }
      packed += range.count();
    }
  }
  return pieces;
}

int64_t packed_place(const std::vector<Piece>& pieces, const Piece& piece) {
  for (const Piece& held : pieces) {
    const int64_t within = piece.logical - held.logical;
    if (within >= 0 && within + piece.count <= held.count) return held.packed + within;
  }
  throw Error("a piece that this rank has not");
}

std::string ranges_text(const std::vector<Piece>& pieces) {
  std::vector<Range> ranges;
  for (const Piece& piece : pieces) {
    if (ranges.empty() || ranges.back().end != piece.logical) {
      ranges.push_back({piece.logical, piece.logical});
    }
    ranges.back().end += piece.count;
  }
  std::string text;
  for (const Range& range : ranges) {
    text +=
        (text.empty() ? "" : ",") + std::to_string(range.begin) + ":" + std::to_string(range.end);
  }
  return text;
}

std::vector<Range> parse_ranges(const std::string& text) {
  std::vector<Range> ranges;
  const char* place = text.data();
  const char* const end = place + text.size();
  int64_t last = 0;
  while (place != end) {
    Range range;
    auto read = std::from_chars(place, end, range.begin);
    bool good = read.ec == std::errc() && read.ptr != end && *read.ptr == ':';
    if (good) read = std::from_chars(read.ptr + 1, end, range.end);
    good = good && read.ec == std::errc() && (read.ptr == end || *read.ptr == ',');
    if (!good || range.begin < last || range.end <= range.begin) {
      throw Error("no list of ranges (" + text.substr(0, 80) + ")");
    }
    last = range.end;
    ranges.push_back(range);
    place = read.ptr == end ? end : read.ptr + 1;
  }
  return ranges;
}

}  // namespace normlab
