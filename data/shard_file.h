// One token shard on disk: its header, what its manifest says of it, and its tokens.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "data/input_file.h"
#include "data/manifest.h"
#include "data/token_corpus.h"

namespace normlab {

// A shard's layout is llm.c's: 256 little-endian int32 {20240520, 1, tokens, 0 …}, then uint16
// tokens.
constexpr int64_t kShardHeaderBytes = 1024;
using ShardHeader = std::array<int32_t, kShardHeaderBytes / sizeof(int32_t)>;
ShardHeader shard_header(int32_t tokens);

// A shard whose header and sizes are right, also against the manifest's entry where there is one,
// and the lengths of whose rows are beside it where the set is padded. Its tokens are not read yet.
class ShardFile {
 public:
  // `entry` null: no manifest. Throws an input Error that names the file and what is wrong.
  ShardFile(const std::string& file, const ManifestShard* entry,
            const std::optional<RowLayout>& rows);

  const std::string& path() const { return file_.path(); }
  int64_t tokens() const { return tokens_; }

  // Called with the bytes of a part that has been read.
  using PartRead = std::function<void(std::span<const std::byte>)>;
  // Reads the tokens once from front to back, in parts handed to `tokens_read`, then the lengths,
  // to `lengths_read`; returns the largest id. Throws an input Error that names file and place
  // where a checksum is not the manifest's, an id is not below `vocabulary` (0: all are), or a row
  // is longer than rows are.
  int64_t read_through(int64_t vocabulary, const PartRead& tokens_read,
                       const PartRead& lengths_read) const;
  MappedShard map() const;

 private:
  void read_lengths(const PartRead& lengths_read) const;

  InputFile file_;
  int64_t tokens_ = 0;
  std::optional<ManifestShard> entry_;
  std::optional<RowLayout> rows_;
  std::unique_ptr<InputFile> lengths_;
};

}  // namespace normlab
