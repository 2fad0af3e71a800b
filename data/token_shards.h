// Token shards: sets of files in llm.c's layout, with a manifest beside them or without.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "data/token_corpus.h"

namespace normlab {

// Bytes read of all: for whoever shows the progress of a large set.
using ReadProgress = std::function<void(int64_t bytes, int64_t total_bytes)>;

// Shards (*.bin: 256 little-endian int32 {20240520, 1, tokens, 0 …}, then uint16 tokens) joined in
// the order given. They are read once, to check them, and mapped, not kept in memory. Vocabulary,
// end-of-text, tokenizer and rows are those of the manifest.json beside them; where there is none,
// those of `otherwise`, a vocabulary of 0 becoming the largest id + 1. Throws an input Error that
// names the file and what is wrong: not a shard, another version, shorter or longer than it says,
// an id outside the vocabulary, not as its manifest says, or files of different sets that cannot be
// joined.
TokenCorpus read_shards(const std::vector<std::string>& files,
                        const CorpusDescription& otherwise = {}, const ReadProgress& progress = {});
// The description that read_shards would give, from headers and manifests alone, but for a
// vocabulary that only the tokens tell: that stays 0. Throws as read_shards does for what it sees.
CorpusDescription describe_shards(const std::vector<std::string>& files,
                                  const CorpusDescription& otherwise = {});
// Largest id + 1, of one part in memory at a time.
int64_t shard_vocabulary(const std::vector<std::string>& files);

// Writes one; complete or not there at all (written beside, synced, renamed).
void write_shard(const std::string& file, std::span<const uint16_t> tokens);

// Paths that match a glob (*, ?), sorted; a pattern without wildcard is itself. Throws an input
// Error where nothing matches or a file is missing.
std::vector<std::string> expand_paths(const std::vector<std::string>& patterns);

}  // namespace normlab
