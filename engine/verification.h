// Whether a run's checkpoints are what its steps make them.
#pragma once

#include <string>
#include <vector>

#include "engine/replay.h"

namespace normlab {

struct Verification {
  std::vector<InspectedCheckpoint> checkpoints;  // the newest first
  // The steps after `from_step` up to `to_step` were taken again. The first whose loss or gradient
  // norm has other bits than metrics.jsonl says, and the first tensor that has others than the
  // checkpoint of `to_step`; "": none.
  int64_t from_step = 0, to_step = 0;
  std::string different_step, different_tensor;

  bool agrees() const;
};

// Recomputes the checksums of every checkpoint, and takes again the steps between the last two that
// are sound (where there is one alone, those from the beginning on). Only a job of as many ranks as
// the run's has its bits, or any with parallel.reproducible. Throws an input Error where the
// directory is no run's, is in use, or has no sound checkpoint.
Verification verify_run(const RunToReplay& run, Log& log, Communicator& communicator);

}  // namespace normlab
