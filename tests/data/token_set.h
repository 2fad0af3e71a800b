// A set of token shards with its manifest, written for a test.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/checksum.h"
#include "data/manifest.h"
#include "data/token_shards.h"
#include "tests/data/temporary_directory.h"

namespace normlab::test {

inline uint64_t checksum_of(const std::string& file) {
  const std::string bytes = read_bytes(file);
  Checksum checksum;
  checksum.add(std::as_bytes(std::span(bytes)));
  return checksum.value();
}

inline void write_lengths(const std::string& shard, const std::vector<uint32_t>& lengths) {
  const std::string bytes(reinterpret_cast<const char*>(lengths.data()),
                          lengths.size() * sizeof(lengths[0]));
  write_bytes(shard + ".lengths", bytes);
}

// A set in a directory of its own. Ids are bytes' until a test says otherwise: 257 of them, 256
// ends a text.
struct TokenSet {
  explicit TokenSet(std::optional<RowLayout> rows = {}) {
    manifest.tokenizer = "bytes";
    manifest.tokenizer_hash = 0x6279746573;
    manifest.vocabulary = 257;
    manifest.end_of_text = 256;
    manifest.rows = rows;
  }

  std::string file(size_t shard) const {
    return directory.file("train-0000" + std::to_string(shard) + ".bin");
  }
  std::vector<std::string> files() const {
    std::vector<std::string> all;
    for (size_t i = 0; i < manifest.shards.size(); ++i) all.push_back(file(i));
    return all;
  }

  // One more shard; `lengths` of a padded set's rows.
  void add(const std::vector<uint16_t>& tokens, const std::vector<uint32_t>& lengths = {}) {
    const std::string path = file(manifest.shards.size());
    write_shard(path, tokens);
    ManifestShard shard;
    shard.file = std::filesystem::path(path).filename().string();
    shard.tokens = static_cast<int64_t>(tokens.size());
    shard.documents = std::count(tokens.begin(), tokens.end(), manifest.end_of_text);
    shard.checksum = checksum_of(path);
    if (manifest.rows) {
      write_lengths(path, lengths);
      shard.documents = static_cast<int64_t>(lengths.size());
      shard.lengths_checksum = checksum_of(path + ".lengths");
    }
    manifest.shards.push_back(shard);
    write();
  }
  void write() const { write_manifest(directory.path.string(), manifest); }
  // After a change of files that the manifest is to know.
  void renew_checksums() {
    for (size_t i = 0; i < manifest.shards.size(); ++i) {
      manifest.shards[i].checksum = checksum_of(file(i));
      if (manifest.rows) manifest.shards[i].lengths_checksum = checksum_of(file(i) + ".lengths");
    }
    write();
  }

  TemporaryDirectory directory;
  Manifest manifest;
};

}  // namespace normlab::test
