#include "data/shard_file.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "data/checksum.h"
#include "kernels/error.h"

namespace normlab {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are read as they lie in memory");

constexpr int32_t kMagic = 20240520;
constexpr int32_t kVersion = 1;
constexpr int64_t kTokenBytes = sizeof(uint16_t);
constexpr int64_t kLengthBytes = sizeof(uint32_t);
constexpr int64_t kPartBytes = int64_t{1} << 18;  // what stays in a core's cache is hashed faster

const char* const kMakeShards = "Take llm.c's, or make them with prepare, or give texts";
const char* const kMakeAgain = "Copy or make it again";

std::string count_of(int64_t count, const char* what) { return std::to_string(count) + what; }

void check_header(const InputFile& file, const ShardHeader& header) {
  const std::string& path = file.path();
  if (header[0] != kMagic) {
    throw input_error(path + ": not a token shard (begins with " + std::to_string(header[0]) +
                      ", a shard with " + std::to_string(kMagic) + "). " + kMakeShards);
  }
  if (header[1] != kVersion) {
    throw input_error(path + ": a shard of version " + std::to_string(header[1]) +
                      " (only version 1, tokens of 16 bits, is known). " + kMakeShards);
  }
  const int64_t promised = header[2];
  if (promised <= 0) {
    throw input_error(path + ": a shard without tokens (its header says " +
                      std::to_string(promised) + "). Leave it out or make it again");
  }
  const int64_t body_bytes = file.size_bytes() - kShardHeaderBytes;
  if (body_bytes == promised * kTokenBytes) return;
  const std::string half = body_bytes % kTokenBytes != 0 ? " and a half" : "";
  const bool shorter = body_bytes < promised * kTokenBytes;
  throw input_error(path + (shorter ? ": truncated" : ": longer than it says") +
                    " (its header says " + count_of(promised, " tokens") + ", it holds " +
                    std::to_string(body_bytes / kTokenBytes) + half + "). " + kMakeAgain);
}

int64_t read_token_count(const InputFile& file) {
  if (file.size_bytes() < kShardHeaderBytes) {
    throw input_error(file.path() + (file.size_bytes() == 0 ? ": empty" : ": not a token shard") +
                      " (" + count_of(file.size_bytes(), " bytes") +
                      ", a shard's header alone is " + std::to_string(kShardHeaderBytes) + "). " +
                      kMakeShards);
  }
  ShardHeader header = {};
  file.read(0, std::as_writable_bytes(std::span(header)));
  check_header(file, header);
  return header[2];
}

void require_checksum(const Checksum& checksum, uint64_t expected, const std::string& path) {
  if (checksum.value() == expected) return;
  throw input_error(path +
                    ": fails its checksum (its bytes are not those that manifest.json was written "
                    "for). " +
                    kMakeAgain);
}

// From byte `begin` to the end, part by part; `place` counts the values before a part.
template <typename Value>
void read_parts(const InputFile& file, int64_t begin,
                const std::function<void(int64_t place, std::span<const Value>)>& part_read) {
  std::vector<Value> buffer(static_cast<size_t>(kPartBytes) / sizeof(Value));
  for (int64_t at = begin; at < file.size_bytes(); at += kPartBytes) {
    const int64_t part_bytes = std::min(kPartBytes, file.size_bytes() - at);
    const auto part = std::span(buffer).first(static_cast<size_t>(part_bytes) / sizeof(Value));
    file.read(at, std::as_writable_bytes(part));
    part_read((at - begin) / int64_t{sizeof(Value)}, part);
  }
}

// The largest value, in a loop that compilers turn into vector instructions.
template <typename Value>
Value largest_of(std::span<const Value> values) {
  Value largest = 0;
  for (const Value value : values) largest = std::max(largest, value);
  return largest;
}

// The place of the first value above `most`.
template <typename Value>
int64_t first_above(std::span<const Value> values, int64_t most) {
  const auto found = std::find_if(values.begin(), values.end(),
                                  [&](Value value) { return int64_t{value} > most; });
  return found - values.begin();
}

}  // namespace

ShardHeader shard_header(int32_t tokens) { return {kMagic, kVersion, tokens}; }

ShardFile::ShardFile(const std::string& file, const ManifestShard* entry,
                     const std::optional<RowLayout>& rows)
    : file_(file), tokens_(read_token_count(file_)), rows_(rows) {
  if (entry == nullptr) return;
  entry_ = *entry;
  if (tokens_ != entry->tokens) {
    throw input_error(file + ": not the shard of its manifest (" + count_of(tokens_, " tokens") +
                      ", manifest.json says " + std::to_string(entry->tokens) + "). " + kMakeAgain);
  }
  if (!rows_) return;
  lengths_ = std::make_unique<InputFile>(file + ".lengths");
  if (lengths_->size_bytes() == entry->documents * kLengthBytes) return;
  throw input_error(lengths_->path() + ": " + count_of(lengths_->size_bytes(), " bytes") +
                    " (the lengths of " + count_of(entry->documents, " rows") + " take " +
                    std::to_string(entry->documents * kLengthBytes) + "). " + kMakeAgain);
}

int64_t ShardFile::read_through(int64_t vocabulary, const PartRead& tokens_read,
                                const PartRead& lengths_read) const {
  Checksum checksum;
  ShardHeader header = {};
  file_.read(0, std::as_writable_bytes(std::span(header)));
  checksum.add(std::as_bytes(std::span(header)));
  int64_t largest = 0;
  std::string outside;
  read_parts<uint16_t>(file_, kShardHeaderBytes, [&](int64_t place, auto tokens) {
    checksum.add(std::as_bytes(tokens));
    tokens_read(std::as_bytes(tokens));
    const int64_t of_part = largest_of(tokens);
    largest = std::max(largest, of_part);
    if (vocabulary == 0 || of_part < vocabulary || !outside.empty()) return;
    const int64_t index = first_above(tokens, vocabulary - 1);
    outside = "token " + std::to_string(place + index) + " has the id " +
              std::to_string(tokens[static_cast<size_t>(index)]);
  });
  // First: of a file that is damaged no id says anything.
  if (entry_) require_checksum(checksum, entry_->checksum, path());
  if (!outside.empty()) {
    throw input_error(path() + ": " + outside + " (outside the vocabulary of " +
                      std::to_string(vocabulary) +
                      "). Take shards of this vocabulary, or name their tokenizer");
  }
  if (lengths_) read_lengths(lengths_read);
  return largest;
}

void ShardFile::read_lengths(const PartRead& lengths_read) const {
  Checksum checksum;
  std::string outside;
  read_parts<uint32_t>(*lengths_, 0, [&](int64_t row, auto lengths) {
    checksum.add(std::as_bytes(lengths));
    lengths_read(std::as_bytes(lengths));
    if (int64_t{largest_of(lengths)} <= rows_->length || !outside.empty()) return;
    const int64_t index = first_above(lengths, rows_->length);
    outside = "row " + std::to_string(row + index) + " has " +
              count_of(lengths[static_cast<size_t>(index)], " tokens");
  });
  require_checksum(checksum, entry_->lengths_checksum, lengths_->path());
  if (outside.empty()) return;
  throw input_error(lengths_->path() + ": " + outside + " (rows are of " +
                    std::to_string(rows_->length) + "). " + kMakeAgain);
}

MappedShard ShardFile::map() const {
  MappedShard shard;
  shard.file = file_.map();
  const std::byte* const bytes = shard.file.bytes().data() + kShardHeaderBytes;
  shard.tokens = {reinterpret_cast<const uint16_t*>(bytes), static_cast<size_t>(tokens_)};
  if (!lengths_) return shard;
  shard.lengths_file = lengths_->map();
  shard.lengths = {reinterpret_cast<const uint32_t*>(shard.lengths_file.bytes().data()),
                   static_cast<size_t>(entry_->documents)};
  return shard;
}

}  // namespace normlab
