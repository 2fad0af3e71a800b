#include "engine/resume.h"

#include "engine/config_names.h"
#include "engine/log.h"
#include "engine/version.h"

namespace normlab {

void check_same_run(const CheckpointDirectory::Found& found, const std::string& configuration_hash,
                    const TokenCorpus& corpus) {
  const TrainingState& state = found.state;
  if (state.configuration_hash != configuration_hash) {
    throw input_error(found.path + ": is a checkpoint of another configuration (its hash is " +
                      state.configuration_hash + ", this run's " + configuration_hash +
                      "). Remove it from here, or choose another run.directory");
  }
  if (state.corpus_hash == hash_corpus(corpus)) return;
  const auto tokens = static_cast<int64_t>(corpus.tokens.size());
  throw input_error(found.path + ": was trained on other data than the configuration names now (" +
                    count_text(state.corpus_tokens) + " training tokens then, " +
                    (tokens == state.corpus_tokens ? "as many but others" : count_text(tokens)) +
                    " now). Restore the data, or choose another run.directory");
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
