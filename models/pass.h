// What every piece of a pass needs to know.
#pragma once

#include <vector>

#include "models/parameter.h"
#include "models/probe.h"

namespace normlab {

enum class Pass {
  training,    // dropout falls
  evaluation,  // it never does
  decoding,    // evaluation of the next tokens of one sequence; the earlier ones are in the cache
};

struct PassContext {
  Ops& ops;
  const ModelConfig& config;
  const std::vector<Parameter>& parameters;
  int64_t batch = 0;   // B of this pass
  int64_t tokens = 0;  // T of this pass
  int64_t first_position = 0;
  Pass pass = Pass::evaluation;
  Probe* probe = nullptr;
  ConstTensor ids = {};  // (B,T) i32, the tokens of this pass

  int64_t rows() const { return batch * tokens; }
  ConstTensor value(int parameter) const {
    return parameter < 0 ? ConstTensor{} : parameters[static_cast<size_t>(parameter)].value;
  }
  Tensor gradient(int parameter) const {
    return parameter < 0 ? Tensor{} : parameters[static_cast<size_t>(parameter)].gradient;
  }
  // Dropout of tensor number `tensor` of the model; off in evaluation.
  Dropout dropout(int64_t tensor) const {
    const bool falls = pass == Pass::training;
    return {falls ? config.dropout : 0.0, static_cast<uint32_t>(tensor)};
  }
  void show(ProbeSite site, int64_t layer, Tensor tensor, int64_t first_row = 0) const {
    if (probe != nullptr) probe->activation(site, layer, tensor, first_row);
  }
  void show_gradient(ProbeSite site, int64_t layer, Tensor tensor, int64_t first_row = 0) const {
    if (probe != nullptr) probe->gradient(site, layer, tensor, first_row);
  }
};

// Numbers that tell the tensors on which dropout falls apart.
constexpr int64_t kEmbeddingDropout = 0;
constexpr int64_t attention_probability_dropout(int64_t layer) { return 1 + 3 * layer; }
constexpr int64_t attention_branch_dropout(int64_t layer) { return 2 + 3 * layer; }
constexpr int64_t mlp_branch_dropout(int64_t layer) { return 3 + 3 * layer; }

// The first rows of a tensor laid out for the largest batch.
inline Tensor first_rows(Tensor tensor, int64_t rows) {
  return tensor ? tensor.row_slice(0, rows) : tensor;
}

}  // namespace normlab
