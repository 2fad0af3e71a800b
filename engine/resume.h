// Whether a run can go on from a checkpoint, and what is different now.
#pragma once

#include <string>
#include <vector>

#include "data/token_stream.h"
#include "engine/checkpoint.h"

namespace normlab {

// Throws an input Error where the checkpoint is of another configuration or of other training data
// than the run's.
void check_same_run(const CheckpointDirectory::Found& found, const std::string& configuration_hash,
                    const TokenCorpus& corpus);
// A line for each thing that moves the numbers from here on: other code, another precision (`auto`
// on another device). `precision`: the run's, resolved.
std::vector<std::string> resume_warnings(const CheckpointDirectory::Found& found,
                                         PrecisionChoice precision);

}  // namespace normlab
