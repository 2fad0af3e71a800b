// Token shards written as a stream of documents: NAME-00000.bin, NAME-00001.bin, …
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/manifest.h"

namespace normlab {

class GrowingShard;

// Shards in llm.c's layout (data/token_shards.h), each of whole documents: one that would make a
// shard longer than `shard_tokens` begins the next. With `rows` a document is a row, cut or filled
// up, and its length stands in FILE.lengths.
class ShardSeries {
 public:
  ShardSeries(std::string directory, std::string name, int64_t shard_tokens,
              std::optional<RowLayout> rows);
  ~ShardSeries();
  ShardSeries(const ShardSeries&) = delete;
  ShardSeries& operator=(const ShardSeries&) = delete;

  // One document of at least a token. Throws an input Error for one that no shard can hold, another
  // Error where the disk fails.
  void add(std::span<const uint16_t> document);
  // What was written; none where there was no document.
  std::vector<ManifestShard> finish();
  int64_t documents() const { return documents_; }
  int64_t tokens() const { return tokens_; }                      // without what fills rows up
  int64_t discarded_tokens() const { return discarded_tokens_; }  // that rows had no room for

 private:
  void finish_shard();

  std::string directory_;
  std::string name_;
  int64_t shard_tokens_;
  std::optional<RowLayout> rows_;
  std::unique_ptr<GrowingShard> shard_;
  std::vector<ManifestShard> shards_;
  int64_t documents_ = 0;
  int64_t tokens_ = 0;
  int64_t discarded_tokens_ = 0;
};

}  // namespace normlab
