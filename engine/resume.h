// What a run starts with or goes on from: whether it can, and what is different now.
#pragma once

#include <string>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/corpus.h"
#include "engine/log.h"

namespace normlab {

// Throws an input Error that says what differs where the checkpoint is of another configuration,
// other training data or another tokenizer than the run's.
void check_same_run(const CheckpointDirectory::Found& found, const std::string& configuration_hash,
                    const DataIdentity& data);
DataIdentity data_identity(const RunCorpus& corpus);
// Puts the model of model.from in the place of config.model, as adopt_model does; warnings go to
// the log. Returns its directory.
std::string adopt_starting_model(Config& config, Log& log);
// The same of the checkpoint that the run goes on from, where it began with model.from: that need
// not be there any more.
void adopt_checkpoint(const CheckpointDirectory::Found& found, Config& config,
                      const RunCorpus& corpus);
// A line for each thing that moves the numbers from here on: other code, another precision (`auto`
// on another device). `precision`: the run's, resolved.
std::vector<std::string> resume_warnings(const CheckpointDirectory::Found& found,
                                         PrecisionChoice precision);

}  // namespace normlab
