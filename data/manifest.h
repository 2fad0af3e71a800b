// manifest.json: what a set of token shards is, beside them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace normlab {

// One document a row, cut or filled up to `length` tokens; the documents' own lengths (uint32,
// little-endian, a number a row) stand in FILE.lengths beside each shard FILE, so that a pad that
// equals end-of-text hides nothing real.
struct RowLayout {
  int64_t length = 0;
  int32_t pad = 0;
};

struct ManifestShard {
  std::string file;  // without a folder
  int64_t tokens = 0;
  int64_t documents = 0;
  uint64_t checksum = 0;          // XXH3 of the whole file
  uint64_t lengths_checksum = 0;  // of FILE.lengths; 0 where rows are not padded
};

struct Manifest {
  std::string tokenizer;  // as make_tokenizer takes it, but that a path is relative to the
                          // manifest's folder ("gpt2:.", "sentencepiece:tokenizer.model"); "": none,
                          // ids came as they are
  uint64_t tokenizer_hash = 0;
  int64_t vocabulary = 0;
  int32_t end_of_text = -1;       // −1: none
  std::optional<RowLayout> rows;  // absent: documents one after another, each ended by end-of-text
  std::vector<ManifestShard> shards;

  int64_t tokens() const;
  int64_t documents() const;
};

// DIR/manifest.json; nothing where there is none. Throws an input Error that names the file, the
// key and the fact.
std::optional<Manifest> read_manifest(const std::string& directory);
// Writes DIR/manifest.json; complete or not there at all (written beside, synced, renamed).
void write_manifest(const std::string& directory, const Manifest& manifest);
// The tokenizer's name with its path made one that make_tokenizer finds from anywhere.
std::string tokenizer_of(const Manifest& manifest, const std::string& directory);

}  // namespace normlab
