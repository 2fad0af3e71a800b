// Numbers that are not finite: NaN and infinity, and where they are.
#pragma once

#include <string>

#include "engine/communicator.h"
#include "models/model.h"

namespace normlab {

struct Nonfinite {
  int64_t count = 0;
  int64_t row = 0, column = 0;  // of the first, where there is one,
  double value = 0;             // and the number itself
};
// In a tensor of any type (ids are always finite); waits.
Nonfinite find_nonfinite(Ops& ops, ConstTensor tensor);

// After a step that was skipped: what its forward pass met first of weights that are not finite, or
// its backward pass of gradients, on any rank; "the weight layers.3.mlp.down.weight". All ranks
// call it. `model` has the gradients that the optimizer has seen.
std::string first_nonfinite(const Model& model, Communicator& communicator);

}  // namespace normlab
