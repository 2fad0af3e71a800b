#include "data/shard_series.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>
#include <utility>

#include "data/checksum.h"
#include "data/output_file.h"
#include "data/shard_file.h"
#include "kernels/error.h"

namespace normlab {
namespace {

constexpr size_t kBlockBytes = size_t{1} << 20;
constexpr int64_t kMostTokens = std::numeric_limits<int32_t>::max();
// Of the file as it lies on the disk: a checksum of what was meant would not show what went wrong
// on the way.
uint64_t checksum_of(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  Checksum checksum;
  std::vector<char> block(kBlockBytes);
  while (stream) {
    stream.read(block.data(), static_cast<std::streamsize>(block.size()));
    checksum.add(std::as_bytes(std::span(block).first(static_cast<size_t>(stream.gcount()))));
  }
  if (!stream.eof()) throw Error(file + ": cannot be read again. Check the disk, run again");
  return checksum.value();
}

}  // namespace

class GrowingShard {
 public:
  GrowingShard(std::string directory, std::string name, bool has_lengths)
      : directory_(std::move(directory)),
        name_(std::move(name)),
        has_lengths_(has_lengths),
        output_(directory_ + "/" + name_) {
    const ShardHeader header = shard_header(0);  // of a length that is known at the end
    output_.write(header.data(), sizeof(header));
  }

  int64_t tokens() const { return tokens_; }

  void add(std::span<const uint16_t> document, size_t fill, uint16_t filling) {
    block_.insert(block_.end(), document.begin(), document.end());
    block_.insert(block_.end(), fill, filling);
    tokens_ += static_cast<int64_t>(document.size() + fill);
    ++documents_;
    if (has_lengths_) lengths_.push_back(static_cast<uint32_t>(document.size()));
    if (block_.size() * sizeof(block_[0]) >= kBlockBytes) flush();
  }

  ManifestShard finish() {
    flush();
    const ShardHeader header = shard_header(static_cast<int32_t>(tokens_));
    output_.rewrite_beginning(header.data(), sizeof(header));
    output_.finish();
    ManifestShard shard{name_, tokens_, documents_, checksum_of(directory_ + "/" + name_), 0};
    if (has_lengths_) {
      const std::string file = directory_ + "/" + name_ + ".lengths";
      OutputFile lengths(file);
      lengths.write(lengths_.data(), lengths_.size() * sizeof(lengths_[0]));
      lengths.finish();
      shard.lengths_checksum = checksum_of(file);
    }
    return shard;
  }

 private:
  void flush() {
    output_.write(block_.data(), block_.size() * sizeof(block_[0]));
    block_.clear();
  }

  std::string directory_;
  std::string name_;
  bool has_lengths_;
  OutputFile output_;
  std::vector<uint16_t> block_;
  std::vector<uint32_t> lengths_;
  int64_t tokens_ = 0;
  int64_t documents_ = 0;
};

ShardSeries::ShardSeries(std::string directory, std::string name, int64_t shard_tokens,
                         std::optional<RowLayout> rows)
    : directory_(std::move(directory)),
      name_(std::move(name)),
      shard_tokens_(std::min(shard_tokens, kMostTokens)),
      rows_(rows) {
  check(shard_tokens > 0, "shard_tokens > 0");
  check(!rows || (rows->length > 0 && rows->length <= kMostTokens), "a row fits into a shard");
}

ShardSeries::~ShardSeries() = default;

void ShardSeries::add(std::span<const uint16_t> document) {
  check(!document.empty(), "a document has at least a token");
  const auto length = static_cast<int64_t>(document.size());
  const int64_t places = rows_ ? rows_->length : length;
  const int64_t kept = std::min(length, places);
  if (places > kMostTokens) {
    throw input_error("a document of " + std::to_string(length) + " tokens (a shard holds " +
                      std::to_string(kMostTokens) +
                      "). Cut the text into documents, with --document-separator");
  }
  if (shard_ != nullptr && shard_->tokens() + places > shard_tokens_) finish_shard();
  if (shard_ == nullptr) {
    char number[16];
    std::snprintf(number, sizeof(number), "-%05zu.bin", shards_.size());
    shard_ = std::make_unique<GrowingShard>(directory_, name_ + number, rows_.has_value());
  }
  shard_->add(document.first(static_cast<size_t>(kept)), static_cast<size_t>(places - kept),
              static_cast<uint16_t>(rows_ ? rows_->pad : 0));
  ++documents_;
  tokens_ += kept;
  discarded_tokens_ += length - kept;
}

std::vector<ManifestShard> ShardSeries::finish() {
  if (shard_ != nullptr) finish_shard();
  return shards_;
}

void ShardSeries::finish_shard() {
  shards_.push_back(shard_->finish());
  shard_.reset();
}

}  // namespace normlab
