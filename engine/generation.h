// Generation: the next tokens of a text.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "models/model.h"

namespace normlab {

struct SamplingOptions {
  int64_t tokens = 256;    // at most
  double temperature = 1;  // 0: always the likeliest
  int64_t top_k = 0;       // of so many likeliest; 0 = all
  uint64_t seed = 0;
  int32_t end_of_text = -1;  // ends the text; −1: nothing does
  // Of the tokenizer: ids from it on only pad the model's rows and are never taken; 0: all are
  // tokens.
  int64_t vocabulary = 0;
};

// Index of the next token by a uniform number in [0, 1). Ties go to the smaller id.
int32_t sample(const std::vector<float>& logits, const SamplingOptions& options, double uniform);

// Continues `prompt` (at least one token) and calls `emit` with each new token. Beyond the model's
// context the older half is forgotten and the rest read again. `should_stop` may end it early.
void generate(Model& model, const std::vector<int32_t>& prompt, const SamplingOptions& options,
              const std::function<void(int32_t)>& emit, bool (*should_stop)() = nullptr);

}  // namespace normlab
