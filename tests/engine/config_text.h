// A smallest valid configuration, and what reading one says.
#pragma once

#include <string>
#include <vector>

#include "engine/config.h"

namespace normlab::test {

// Lines 1 to 5; tests append sections from line 6 on, or override.
inline const std::string minimal =
    "run: {directory: runs/x}\n"
    "model: {family: gpt2, layers: 2, width: 32, heads: 4}\n"
    "batch: {tokens_per_step: 2048, micro_batch: 4}\n"
    "optimizer: {learning_rate: 1e-3}\n"
    "schedule: {total_steps: 100}\n";

inline Config parse(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  return parse_config(yaml, "a.yaml", overrides);
}

// The message of the input Error; "" where there is none, "WRONG KIND: …" of any other.
inline std::string complaint(const std::string& yaml,
                             const std::vector<std::string>& overrides = {}) {
  try {
    parse(yaml, overrides);
  } catch (const Error& problem) {
    return (problem.kind() == ErrorKind::input ? "" : "WRONG KIND: ") + std::string(problem.what());
  }
  return "";
}
// The same for the smallest configuration with one override.
inline std::string override_complaint(const std::string& assignment) {
  return complaint(minimal, {assignment});
}

// For comparing whole configurations: to_yaml tells all fields but those that follow from others.
inline bool same_config(const Config& a, const Config& b) {
  const ModelConfig& m = a.model;
  const ModelConfig& n = b.model;
  return to_yaml(a) == to_yaml(b) && a.data.corpus == b.data.corpus &&
         a.data.train == b.data.train && a.data.text == b.data.text &&
         a.data.validation == b.data.validation &&
         a.data.grammar_documents == b.data.grammar_documents && a.model_from == b.model_from &&
         a.model_size == b.model_size && a.model_from_family == b.model_from_family &&
         m.family == n.family && m.positions == n.positions && m.activation == n.activation &&
         m.biases == n.biases && m.rope_base == n.rope_base &&
         a.optimizer.learning_rate == b.optimizer.learning_rate &&
         a.optimizer.beta1 == b.optimizer.beta1 && a.optimizer.beta2 == b.optimizer.beta2;
}

}  // namespace normlab::test
