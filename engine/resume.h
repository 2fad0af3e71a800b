// Whether a run can go on from a checkpoint, and what is different now.
#pragma once

#include <string>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/corpus.h"

namespace normlab {

// Throws an input Error that says what differs where the checkpoint is of another configuration,
// other training data or another tokenizer than the run's.
void check_same_run(const CheckpointDirectory::Found& found, const std::string& configuration_hash,
                    const DataIdentity& data);
DataIdentity data_identity(const RunCorpus& corpus);
// A line for each thing that moves the numbers from here on: other code, another precision (`auto`
// on another device). `precision`: the run's, resolved.
std::vector<std::string> resume_warnings(const CheckpointDirectory::Found& found,
                                         PrecisionChoice precision);

}  // namespace normlab
