// The data of a run: from its configuration to token corpora in memory.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "data/token_shards.h"
#include "data/token_stream.h"
#include "engine/config.h"

namespace normlab {

struct RunCorpus {
  TokenCorpus train;
  std::map<std::string, TokenCorpus> validation;  // by name; may be empty
  int64_t vocabulary = 0;                         // that a model must have at least
  std::string tokenizer;
  // Of the grammar corpus: what a perfect model loses per token of `validation`, nats; else 0.
  double known_cross_entropy = 0;
};

// Opens or makes it. Throws an input Error for what is wrong with the files.
RunCorpus open_corpus(const Config& config);
// Whether all are token shards (*.bin).
bool all_shards(const std::vector<std::string>& files);
// Corpora from files given to evaluate: shards, or texts by `tokenizer`.
TokenCorpus open_tokens(const std::vector<std::string>& files, const std::string& tokenizer);
StreamOptions training_stream(const Config& config);
RowPacking row_packing(Packing packing);
// A vocabulary of 0 becomes the corpus's; a smaller one than the corpus's is an input Error.
void resolve_vocabulary(ModelConfig& model, const RunCorpus& corpus);

}  // namespace normlab
