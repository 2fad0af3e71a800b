// Models of both families that are small enough for a test of the engine.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/weights.h"
#include "models/model.h"

namespace normlab::test {

// 2 layers, width 16, vocabulary 19, context 12; llama with grouped heads and an odd feed_forward.
inline ModelConfig small_config(Family family) {
  ModelConfig config = family == Family::gpt2 ? gpt2_defaults() : llama_defaults();
  config.layers = 2;
  config.width = 16;
  config.heads = 4;
  config.kv_heads = family == Family::gpt2 ? 4 : 2;
  config.head_size = 4;
  config.feed_forward = family == Family::gpt2 ? 64 : 23;
  config.vocabulary = 19;
  config.context = 12;
  // Larger than one would train with: every logit differs clearly from every other.
  config.init.std = 0.3;
  config.init.embedding_std = 0.5;
  return config;
}

class SmallModel {
 public:
  explicit SmallModel(const ModelConfig& config, Purpose purpose = Purpose::inference,
                      int64_t micro_batch = 2, Precision precision = Precision::fp32)
      : ops(make_ops(Device::cpu, precision, 1)),
        model(*ops, config, {micro_batch, config.context, purpose}) {
    model.initialize(11);
  }

  // Logits after the last of so many tokens, by one forward pass over all of them.
  std::vector<float> logits(const std::vector<int32_t>& tokens) {
    const auto count = static_cast<int64_t>(tokens.size());
    const Memory ids = ops->allocate(count * size_of(DType::i32));
    const Tensor row(ids.data(), DType::i32, {1, count});
    ops->upload(row, tokens.data());
    model.forward({row, {}}, Pass::evaluation);
    const int64_t vocabulary = model.config().vocabulary;
    const Memory room = ops->allocate(vocabulary * size_of(ops->working_type()));
    const Tensor out(room.data(), ops->working_type(), {1, vocabulary});
    model.head(out, model.final_activation().row_slice(count - 1, 1));
    return download_floats(*ops, out);
  }
  std::vector<float> values() { return download_floats(*ops, model.values()); }

  std::unique_ptr<Ops> ops;
  Model model;
};

}  // namespace normlab::test
