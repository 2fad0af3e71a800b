// Whether what is exported computes what it was made of.
#pragma once

#include <vector>

#include "engine/hugging_face.h"
#include "engine/safetensors.h"
#include "models/model.h"

namespace normlab {

// A pass over some tokens, enough for attention to matter.
Workload checked_workload(const ModelDescription& description);
// Logits (tokens, V) of such a pass, always of the same tokens; the model's workload is that one.
std::vector<float> logits_of(Model& model);
// The largest difference by the largest logit. What is finite in neither is alike.
double difference_of(const std::vector<float>& logits, const std::vector<float>& expected);
// How far logits may differ: in fp32 by the rounding of arithmetic, else by that of the weights.
constexpr double kExactDifference = 1e-4;
double difference_allowed(StoredType type);

}  // namespace normlab
