// A stream of bytes cut at every place of a separator: into lines, or into documents.
#pragma once

#include <memory>
#include <string>

#include "data/byte_source.h"

namespace normlab {

// The bytes between separators; behind the last one there is a piece only where there are bytes.
// A UTF-8 byte order mark at the very beginning is dropped. Memory is that of the longest piece.
class PieceReader {
 public:
  // "": the whole is one piece.
  PieceReader(std::unique_ptr<ByteSource> source, std::string separator);

  // False at the end. Throws what the source throws.
  bool next(std::string& piece);
  // Of the source, as they are stored.
  int64_t bytes_read() const { return source_->bytes_read(); }

 private:
  // False where there is nothing more to read.
  bool read_more();

  std::unique_ptr<ByteSource> source_;
  std::string separator_;
  std::string block_;  // what was read last
  std::string ahead_;  // what was read and not yet handed out is ahead_[begin_ …]
  size_t begin_ = 0;
  bool at_beginning_ = true;
};

}  // namespace normlab
