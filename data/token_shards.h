// Token shards: llm.c's file layout, and sequences of token ids in memory.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace normlab {

// A corpus of tokens: documents one after another, each ended by an end-of-text token where the
// tokenizer has one. document_starts[i] is the place of document i's first token.
struct TokenCorpus {
  std::vector<uint16_t> tokens;
  std::vector<int64_t> document_starts;
  int64_t vocabulary = 0;
  int32_t end_of_text = -1;  // −1: none
  std::string tokenizer;     // as in data.tokenizer
  uint64_t hash = 0;         // of all tokens, to notice other data on resume
};

// The value of TokenCorpus::hash for these tokens.
uint64_t hash_tokens(std::span<const uint16_t> tokens);
// The hash of a corpus and of where its documents begin, which padded rows depend on.
uint64_t hash_corpus(const TokenCorpus& corpus);

// Reads shards (*.bin: 256 little-endian int32 {20240520, 1, tokens, 0 …}, then uint16 tokens),
// concatenated in the order given. Throws an input Error that names the file and what is wrong
// (not a shard, another version, shorter or longer than it says). What a shard does not tell:
// the vocabulary becomes the largest id + 1, end_of_text −1, and all is one document.
TokenCorpus read_shards(const std::vector<std::string>& files);
// The vocabulary that read_shards would give, one block in memory at a time. Throws as it does.
int64_t shard_vocabulary(const std::vector<std::string>& files);
// Writes one; complete or not there at all (written beside, synced, renamed).
void write_shard(const std::string& file, std::span<const uint16_t> tokens);

// Paths that match a glob (*, ?), sorted; a pattern without wildcard is itself. Throws an input
// Error where nothing matches or a file is missing.
std::vector<std::string> expand_paths(const std::vector<std::string>& patterns);

}  // namespace normlab
