// The data of a run: from its configuration to token corpora.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "data/token_shards.h"
#include "data/token_stream.h"
#include "engine/config.h"

namespace normlab {

struct RunCorpus {
  TokenCorpus train;
  std::map<std::string, TokenCorpus> validation;  // by name; may be empty
  int64_t vocabulary = 0;                         // that a model must have at least
  std::string tokenizer;  // as make_tokenizer takes it, its path absolute; "": not known
  // Of the grammar corpus: what a perfect model loses per token of `validation`, nats; else 0.
  double known_cross_entropy = 0;
};

// What is known of a run's data before any text or token is read.
struct RunDescription {
  CorpusDescription train;
  std::map<std::string, CorpusDescription> validation;
};

// From the names of files, headers of shards and manifests. Throws an input Error that names the
// key: files that are missing or damaged, sets of different tokenizers, another tokenizer than the
// recipe's, documents that cannot be packed as asked.
RunDescription describe_corpus(const Config& config);
// Opens or makes it; throws as describe_corpus does, and for what is wrong in the files.
RunCorpus open_corpus(const Config& config, const ReadProgress& progress = {});
// Of prompts with completions, an example a row: how many are cut. Throws an input Error where no
// completion is left of any example, to learn or to be judged by.
std::vector<std::string> prompt_warnings(const Config& config, const RunCorpus& corpus);
// data.tokenizer and data.packing, where the recipe leaves them to the data.
void resolve_data(Config& config, const CorpusDescription& train);
// The vocabulary that a model must have at least. Shards that have no manifest are read through
// for it, and not kept in memory, where the configuration's model does not say it.
int64_t least_vocabulary(const Config& config, const RunDescription& data);

// Whether all are token shards (*.bin).
bool all_shards(const std::vector<std::string>& files);
// A corpus from files given to evaluate: shards, `otherwise` as for read_shards, or texts by
// `tokenizer`.
TokenCorpus open_tokens(const std::vector<std::string>& files, const std::string& tokenizer,
                        const CorpusDescription& otherwise, const ReadProgress& progress = {});
StreamOptions training_stream(const Config& config);
RowPacking row_packing(Packing packing);
// How a corpus is packed where `otherwise` is asked for: padded sets can only be padded.
RowPacking packing_of(const CorpusDescription& corpus, RowPacking otherwise);
// A vocabulary of 0 becomes the corpus's; a smaller one than the corpus's is an input Error.
void resolve_vocabulary(ModelConfig& model, int64_t corpus_vocabulary);

}  // namespace normlab
