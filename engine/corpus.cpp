#include "engine/corpus.h"

#include <algorithm>

#include "data/grammar.h"
#include "data/text_reader.h"
#include "data/tokenizer.h"

namespace normlab {
namespace {

bool is_shard(const std::string& file) { return file.ends_with(".bin"); }

std::string key_of(const Config& config) {
  switch (config.data.corpus) {
    case Corpus::text:
      return "data.text";
    case Corpus::prompts:
      return "data.prompts";
    case Corpus::grammar:
      return "data.grammar";
    case Corpus::shards:
      return "data.train";
  }
  throw Error("a corpus that is unknown");
}

// What the recipe says of shards without a manifest.
CorpusDescription of_recipe(const Config& config) {
  CorpusDescription description;
  if (!config.data.tokenizer.empty()) {
    description = describe(*make_tokenizer(config.data.tokenizer));
    description.end_of_text = -1;  // nothing says that these shards have it
  }
  if (config.model.vocabulary > 0) description.vocabulary = config.model.vocabulary;
  return description;
}

// The same for validation shards: their ids are to be the training set's.
CorpusDescription as_trained(const CorpusDescription& train) {
  CorpusDescription description;
  description.vocabulary = train.vocabulary;
  return description;
}

// The tokenizer of validation texts.
std::string text_tokenizer(const Config& config, const CorpusDescription& train) {
  if (!config.data.tokenizer.empty()) return config.data.tokenizer;
  if (!train.tokenizer.empty()) return train.tokenizer;
  throw input_error(
      "the tokenizer of these texts is not known (the training shards name none). Name it as "
      "data.tokenizer");
}

void require_one_kind(const std::vector<std::string>& files) {
  if (all_shards(files) || std::none_of(files.begin(), files.end(), is_shard)) return;
  throw input_error(files.front() +
                    " …: token shards (*.bin) and texts together. Name files of one kind");
}

CorpusDescription describe_training(const Config& config) {
  switch (config.data.corpus) {
    case Corpus::text:
      expand_paths(config.data.text);
      return describe(*make_tokenizer(config.data.tokenizer));
    case Corpus::prompts:
      expand_paths(config.data.prompts);
      return describe(*make_tokenizer(config.data.tokenizer));
    case Corpus::grammar:
      return describe(*make_tokenizer("bytes"));
    case Corpus::shards: {
      const CorpusDescription set = describe_shards(expand_paths(config.data.train));
      return set.manifest.empty() ? of_recipe(config) : set;
    }
  }
  throw Error("a corpus that is unknown");
}

CorpusDescription describe_validation(const Config& config,
                                      const std::vector<std::string>& patterns,
                                      const CorpusDescription& train) {
  const std::vector<std::string> files = expand_paths(patterns);
  require_one_kind(files);
  if (all_shards(files)) return describe_shards(files, as_trained(train));
  return describe(*make_tokenizer(text_tokenizer(config, train)));
}

// A recipe may name the tokenizer of a set by another path, not another tokenizer.
void require_tokenizer_of_recipe(const Config& config, const CorpusDescription& train) {
  const std::string& named = config.data.tokenizer;
  if (named.empty() || named == train.tokenizer || train.tokenizer_hash == 0) return;
  if (make_tokenizer(named)->hash() == train.tokenizer_hash) return;
  throw input_error("data.tokenizer = " + named + " (" + train.manifest + " was made with " +
                    train.tokenizer + "). Leave it out: the set names its own");
}

std::string origin_of(const CorpusDescription& corpus) {
  const std::string& tokenizer = corpus.tokenizer;
  return (tokenizer.empty() ? "ids of an unknown tokenizer" : tokenizer) +
         (corpus.manifest.empty() ? "" : " in " + corpus.manifest);
}

void require_same_vocabulary(const CorpusDescription& train, const CorpusDescription& validation) {
  const bool other = train.tokenizer_hash != 0 && validation.tokenizer_hash != 0 &&
                     train.tokenizer_hash != validation.tokenizer_hash;
  const bool larger = train.vocabulary != 0 && validation.vocabulary > train.vocabulary;
  if (!other && !larger) return;
  const std::string of_train = std::to_string(train.vocabulary);
  throw input_error("its tokens are of " + origin_of(validation) + " with a vocabulary of " +
                    std::to_string(validation.vocabulary) + " (those trained on are of " +
                    origin_of(train) + " with " + of_train + "). Prepare both with one tokenizer");
}

// The stream of a corpus, where training on it is not what the configuration's is for.
StreamOptions validation_stream(const Config& config, const CorpusDescription& corpus) {
  StreamOptions options = training_stream(config);
  options.packing = packing_of(corpus, options.packing);
  return options;
}

StreamOptions stream_of(const Config& config, const CorpusDescription& train) {
  Config resolved = config;
  resolve_data(resolved, train);
  return training_stream(resolved);
}

void open_training(RunCorpus& corpus, const Config& config, const CorpusDescription& stated,
                   const ReadProgress& progress) {
  SplitCorpus split;
  switch (config.data.corpus) {
    case Corpus::text:
      split = read_text(expand_paths(config.data.text), *make_tokenizer(config.data.tokenizer),
                        config.data.validation_fraction);
      break;
    case Corpus::prompts:
      split =
          read_prompts(expand_paths(config.data.prompts), *make_tokenizer(config.data.tokenizer),
                       config.data.roles, config.data.validation_fraction);
      break;
    case Corpus::grammar: {
      GrammarCorpus grammar =
          make_grammar_corpus(config.data.grammar_documents, config.data.validation_fraction,
                              static_cast<uint64_t>(config.run.seed));
      corpus.known_cross_entropy = grammar.validation_cross_entropy;
      split = std::move(grammar.corpus);
      break;
    }
    case Corpus::shards:
      split.train = read_shards(expand_paths(config.data.train), stated, progress);
      break;
  }
  corpus.train = std::move(split.train);
  if (split.validation.size() > 0) corpus.validation["validation"] = std::move(split.validation);
}

TokenCorpus open_validation(const Config& config, const std::vector<std::string>& files,
                            const CorpusDescription& train, const ReadProgress& progress) {
  if (all_shards(files)) return open_tokens(files, "", as_trained(train), progress);
  const std::string tokenizer = text_tokenizer(config, train);
  if (config.data.corpus != Corpus::prompts) return open_tokens(files, tokenizer, {});
  return read_prompts(files, *make_tokenizer(tokenizer), config.data.roles, 0).train;
}

std::string absolute_tokenizer(const std::string& name) {
  Manifest here;
  here.tokenizer = name;
  return tokenizer_of(here, "");
}

}  // namespace

RunDescription describe_corpus(const Config& config) {
  RunDescription data;
  std::string key = key_of(config);
  try {
    data.train = describe_training(config);
    require_tokenizer_of_recipe(config, data.train);
    require_streamable(data.train, stream_of(config, data.train));
    for (const auto& [name, patterns] : config.data.validation) {
      key = "data.validation " + name;
      CorpusDescription description = describe_validation(config, patterns, data.train);
      require_same_vocabulary(data.train, description);
      require_streamable(description, validation_stream(config, description));
      data.validation.emplace(name, std::move(description));
    }
  } catch (const Error& error) {
    throw error.at(key);
  }
  return data;
}

RunCorpus open_corpus(const Config& config, const ReadProgress& progress) {
  // What takes no reading is said at once.
  const CorpusDescription stated = describe_corpus(config).train;
  RunCorpus corpus;
  std::string key = key_of(config);
  try {
    open_training(corpus, config, stated, progress);
    corpus.vocabulary = corpus.train.description().vocabulary;
    corpus.tokenizer = absolute_tokenizer(stated.tokenizer);
    for (const auto& [name, patterns] : config.data.validation) {
      key = "data.validation " + name;
      const std::vector<std::string> files = expand_paths(patterns);
      TokenCorpus opened = open_validation(config, files, stated, progress);
      corpus.vocabulary = std::max(corpus.vocabulary, opened.description().vocabulary);
      corpus.validation[name] = std::move(opened);
    }
  } catch (const Error& error) {
    throw error.at(key);
  }
  return corpus;
}

std::vector<std::string> prompt_warnings(const Config& config, const RunCorpus& corpus) {
  std::vector<std::string> warnings;
  const auto look_at = [&](const TokenCorpus& examples, const std::string& key) {
    if (!examples.has_prompts() || config.data.packing != Packing::padded) return;
    const CutExamples count = count_cut(examples, config.data.sequence_length);
    const std::string shown = std::to_string(config.data.sequence_length + 1) + " tokens";
    if (count.without_target == count.examples) {
      throw input_error(key + ": no completion begins within the first " + shown +
                        " of its example. Take a longer data.sequence_length");
    }
    if (count.cut == 0) return;
    warnings.push_back(key + ": " + std::to_string(count.cut) + " of " +
                       std::to_string(count.examples) + " examples are longer than " + shown +
                       " and are cut; " + std::to_string(count.without_target) +
                       " have no completion left");
  };
  look_at(corpus.train, "data.prompts");
  for (const auto& [name, examples] : corpus.validation) {
    look_at(examples, "data.validation " + name);
  }
  return warnings;
}

void resolve_data(Config& config, const CorpusDescription& train) {
  if (config.data.tokenizer.empty() || !train.manifest.empty()) {
    if (!train.tokenizer.empty()) config.data.tokenizer = train.tokenizer;
  }
  if (!config.data.packing) {
    config.data.packing = train.rows ? Packing::padded : Packing::concatenated;
  }
}

int64_t least_vocabulary(const Config& config, const RunDescription& data) {
  int64_t vocabulary = data.train.vocabulary;
  if (vocabulary > 0) return vocabulary;
  vocabulary = shard_vocabulary(expand_paths(config.data.train));
  for (const auto& [name, patterns] : config.data.validation) {
    const int64_t stated = data.validation.at(name).vocabulary;
    vocabulary =
        std::max(vocabulary, stated > 0 ? stated : shard_vocabulary(expand_paths(patterns)));
  }
  return vocabulary;
}

bool all_shards(const std::vector<std::string>& files) {
  return std::all_of(files.begin(), files.end(), is_shard);
}

TokenCorpus open_tokens(const std::vector<std::string>& files, const std::string& tokenizer,
                        const CorpusDescription& otherwise, const ReadProgress& progress) {
  require_one_kind(files);
  if (all_shards(files)) return read_shards(files, otherwise, progress);
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

RowPacking packing_of(const CorpusDescription& corpus, RowPacking otherwise) {
  return corpus.rows ? RowPacking::padded : otherwise;
}

StreamOptions training_stream(const Config& config) {
  StreamOptions options;
  options.tokens_per_sequence = config.data.sequence_length;
  options.packing = row_packing(config.data.packing.value_or(Packing::concatenated));
  options.mask_eot_targets = config.data.mask_eot_targets;
  options.seed = static_cast<uint64_t>(config.run.seed);
  return options;
}

void resolve_vocabulary(ModelConfig& model, int64_t corpus_vocabulary) {
  if (model.vocabulary == 0) model.vocabulary = corpus_vocabulary;
  if (model.vocabulary < corpus_vocabulary) {
    throw input_error("model.vocabulary = " + std::to_string(model.vocabulary) +
                      " (the data have ids up to " + std::to_string(corpus_vocabulary - 1) +
                      "). Leave it out, or use the tokenizer of the model");
  }
}

}  // namespace normlab
