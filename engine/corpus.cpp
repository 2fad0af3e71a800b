#include "engine/corpus.h"

#include <algorithm>

#include "data/grammar.h"
#include "data/text_reader.h"
#include "data/tokenizer.h"

namespace normlab {
namespace {

bool is_shard(const std::string& file) { return file.ends_with(".bin"); }

void open_text(RunCorpus& corpus, const Config& config) {
  const auto tokenizer = make_tokenizer(config.data.tokenizer);
  SplitCorpus split =
      read_text(expand_paths(config.data.text), *tokenizer, config.data.validation_fraction);
  corpus.train = std::move(split.train);
  if (!split.validation.tokens.empty()) {
    corpus.validation["validation"] = std::move(split.validation);
  }
  corpus.vocabulary = tokenizer->vocabulary();
  corpus.tokenizer = tokenizer->name();
}

void open_grammar(RunCorpus& corpus, const Config& config) {
  GrammarCorpus grammar =
      make_grammar_corpus(config.data.grammar_documents, config.data.validation_fraction,
                          static_cast<uint64_t>(config.run.seed));
  corpus.known_cross_entropy = grammar.validation_cross_entropy;
  corpus.train = std::move(grammar.corpus.train);
  if (!grammar.corpus.validation.tokens.empty()) {
    corpus.validation["validation"] = std::move(grammar.corpus.validation);
  }
  corpus.vocabulary = corpus.train.vocabulary;
  corpus.tokenizer = corpus.train.tokenizer;
}

void open_shards(RunCorpus& corpus, const Config& config) {
  corpus.train = read_shards(expand_paths(config.data.train));
  corpus.vocabulary = corpus.train.vocabulary;
  corpus.tokenizer = corpus.train.tokenizer;
}

// At the start, not at the first evaluation.
void check_streams(const RunCorpus& corpus, const Config& config) {
  const StreamOptions options = training_stream(config);
  std::string key = config.data.corpus == Corpus::shards ? "data.train" : "data.text";
  try {
    require_document_ends(corpus.train, options);
    for (const auto& [name, tokens] : corpus.validation) {
      key = "data.validation " + name;
      require_document_ends(tokens, options);
    }
  } catch (const Error& error) {
    throw error.at(key);
  }
}

}  // namespace

RunCorpus open_corpus(const Config& config) {
  RunCorpus corpus;
  switch (config.data.corpus) {
    case Corpus::text:
      open_text(corpus, config);
      break;
    case Corpus::grammar:
      open_grammar(corpus, config);
      break;
    case Corpus::shards:
      open_shards(corpus, config);
      break;
  }
  for (const auto& [name, patterns] : config.data.validation) {
    corpus.validation[name] = open_tokens(expand_paths(patterns), config.data.tokenizer);
    corpus.vocabulary = std::max(corpus.vocabulary, corpus.validation[name].vocabulary);
  }
  check_streams(corpus, config);
  return corpus;
}

bool all_shards(const std::vector<std::string>& files) {
  return std::all_of(files.begin(), files.end(), is_shard);
}

TokenCorpus open_tokens(const std::vector<std::string>& files, const std::string& tokenizer) {
  if (all_shards(files)) return read_shards(files);
  if (std::any_of(files.begin(), files.end(), is_shard)) {
    throw input_error(files.front() +
                      " …: token shards (*.bin) and texts together. "
                      "Name files of one kind");
  }
  return read_text(files, *make_tokenizer(tokenizer));
}

RowPacking row_packing(Packing packing) {
  switch (packing) {
    case Packing::concatenated:
      return RowPacking::concatenated;
    case Packing::padded:
      return RowPacking::padded;
  }
  throw Error("a packing that is unknown");
}

StreamOptions training_stream(const Config& config) {
  StreamOptions options;
  options.tokens_per_sequence = config.data.sequence_length;
  options.packing = row_packing(config.data.packing);
  options.mask_eot_targets = config.data.mask_eot_targets;
  options.seed = static_cast<uint64_t>(config.run.seed);
  return options;
}

void resolve_vocabulary(ModelConfig& model, const RunCorpus& corpus) {
  if (model.vocabulary == 0) model.vocabulary = corpus.vocabulary;
  if (model.vocabulary < corpus.vocabulary) {
    throw input_error("model.vocabulary = " + std::to_string(model.vocabulary) +
                      " (the data have ids up to " + std::to_string(corpus.vocabulary - 1) +
                      "). Leave it out, or use the tokenizer of the model");
  }
}

}  // namespace normlab
