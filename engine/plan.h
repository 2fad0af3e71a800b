// What a run will need on each device, computed without allocating any of it.
#pragma once

#include "engine/config.h"
#include "engine/removal_schedule.h"

namespace normlab {

struct RunPlan {
  int64_t parameters = 0;
  int64_t tokens_per_step = 0;
  int64_t passes_per_step = 0;                             // of all ranks; forward and backward
  PrecisionChoice precision = PrecisionChoice::automatic;  // never that
  // Bytes on the device.
  int64_t weights_bytes = 0;
  int64_t gradients_bytes = 0;
  int64_t optimizer_bytes = 0;  // moments, and masters where there are some
  int64_t activations_bytes = 0;
  // Batches, partial sums, gradient tree of logical shards, and what the CPU's kernels keep beside
  // (but for what products pack, at most 16 MiB).
  int64_t workspace_bytes = 0;
  int64_t total_bytes = 0;
  // Forward and backward: 6 · (numbers in matrices that multiply) + 6 · layers · T · H·D for causal
  // attention, as the field counts them (Chowdhery et al. 2022, appendix B, halved for causality).
  double flops_per_token = 0;
  // What each of several ranks sends, and receives, for one step's gradients and weights: sums go
  // round a ring, where a rank sends (ranks − 1)/ranks of a tensor to sum its parts, and as much to
  // gather them. Of these, what no backward pass can hide: the last bucket, ZeRO's weights, all of
  // the gradient tree (parallel.reproducible), whose busiest rank sends its gradient once and hands
  // the sum on.
  int64_t sent_bytes = 0;
  int64_t sent_after_backward_bytes = 0;
  std::vector<RemovalEvent> schedule;
  std::vector<std::string> warnings;
};

// model.vocabulary 0 is taken from the tokenizer or, for shards, from the files, which are read
// through but not kept in memory; `config` keeps it. Shards that are not there are a warning where
// the recipe says the vocabulary itself.
// For one of so many ranks, the one that needs most.
RunPlan plan_run(Config& config, int ranks = 1);

}  // namespace normlab
