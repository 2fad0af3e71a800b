#include "data/piece_reader.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace normlab {
namespace {

constexpr size_t kBlockBytes = size_t{1} << 18;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

PieceReader::PieceReader(std::unique_ptr<ByteSource> source, std::string separator)
    : source_(std::move(source)), separator_(std::move(separator)), block_(kBlockBytes, '\0') {}

bool PieceReader::next(std::string& piece) {
  while (at_beginning_ && ahead_.size() < kByteOrderMark.size() && read_more()) continue;
  if (at_beginning_ && ahead_.starts_with(kByteOrderMark)) begin_ = kByteOrderMark.size();
  at_beginning_ = false;
  size_t searched = begin_;  // no separator begins before this place
  while (true) {
    const size_t found = separator_.empty() ? std::string::npos : ahead_.find(separator_, searched);
    if (found != std::string::npos) {
      piece.assign(ahead_, begin_, found - begin_);
      begin_ = found + separator_.size();
      return true;
    }
    // What is handed out goes before the rest grows, so that bytes are moved once a block at most.
    ahead_.erase(0, std::exchange(begin_, 0));
    const size_t tail = std::max(separator_.size(), size_t{1}) - 1;
    searched = ahead_.size() - std::min(ahead_.size(), tail);
    if (!read_more()) break;
  }
  piece = std::exchange(ahead_, {});
  return !piece.empty();
}

bool PieceReader::read_more() {
  const size_t count = source_->read(block_);
  ahead_.append(block_, 0, count);
  return count > 0;
}

}  // namespace normlab
