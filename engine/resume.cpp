#include "engine/resume.h"

#include "engine/config_names.h"
#include "engine/version.h"

namespace normlab {
namespace {

std::string named(const std::string& text) { return text.empty() ? "none" : text; }

// A set and its tokenizer may have moved: what they hold decides. "" where that is the same.
std::string data_changes(const DataIdentity& then, const DataIdentity& now) {
  std::string changes;
  if (then.corpus_hash != now.corpus_hash) {
    const bool as_many = then.corpus_tokens == now.corpus_tokens;
    changes = count_text(then.corpus_tokens) + " training tokens then, " +
              (as_many ? "as many but others" : count_text(now.corpus_tokens)) + " now";
  }
  const bool both_known = then.tokenizer_hash != 0 && now.tokenizer_hash != 0;
  if (both_known && then.tokenizer_hash != now.tokenizer_hash) {
    changes += (changes.empty() ? "" : "; ") + std::string("tokenizer ") + named(then.tokenizer) +
               " then, " + named(now.tokenizer) + " now";
    if (then.tokenizer == now.tokenizer) changes += " with other contents";
  }
  if (!changes.empty() && then.manifest != now.manifest) {
    changes += "; manifest " + named(then.manifest) + " then, " + named(now.manifest) + " now";
  }
  return changes;
}

}  // namespace

void check_same_run(const CheckpointDirectory::Found& found, const std::string& configuration_hash,
                    const DataIdentity& data) {
  const TrainingState& state = found.state;
  if (state.configuration_hash != configuration_hash) {
    throw input_error(found.path + ": is a checkpoint of another configuration (its hash is " +
                      state.configuration_hash + ", this run's " + configuration_hash +
                      "). Remove it from here, or choose another run.directory");
  }
  const std::string changed = data_changes(state.data, data);
  if (changed.empty()) return;
  throw input_error(found.path + ": was trained on other data than the configuration names now (" +
                    changed + "). Restore the data, or choose another run.directory");
}

DataIdentity data_identity(const RunCorpus& corpus) {
  const CorpusDescription& train = corpus.train.description();
  return {corpus.train.hash(), corpus.train.size(), corpus.tokenizer, train.tokenizer_hash,
          train.manifest};
}

std::string adopt_starting_model(Config& config, Log& log) {
  std::vector<std::string> warnings;
  const std::string directory = adopt_model(config, warnings);
  for (const std::string& warning : warnings) log.warn(warning);
  return directory;
}

void adopt_checkpoint(const CheckpointDirectory::Found& found, Config& config,
                      const RunCorpus& corpus) {
  if (!config.model_from) return;
  adopt_model_of(found.path, config);
  resolve_vocabulary(config.model, corpus.vocabulary);
}

std::vector<std::string> resume_warnings(const CheckpointDirectory::Found& found,
                                         PrecisionChoice precision) {
  std::vector<std::string> warnings;
  if (found.state.code != code_version()) {
    warnings.push_back(found.path + ": written by " + found.state.code + ", this is " +
                       code_version() + " (the numbers may differ from there on)");
  }
  const PrecisionChoice written = read_config_json(found.path).precision;
  if (written != PrecisionChoice::automatic && written != precision) {
    warnings.push_back(found.path + ": written in " + name_of(written, precision_names) +
                       ", the run goes on in " + name_of(precision, precision_names) +
                       " (the numbers differ from there on)");
  }
  return warnings;
}

}  // namespace normlab
