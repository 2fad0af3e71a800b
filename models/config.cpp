#include "models/config.h"

#include "models/parameter.h"

namespace normlab {
namespace {

void require(bool holds, const std::string& key, int64_t value, const std::string& why) {
  if (!holds) {
    throw input_error("model." + key + " = " + std::to_string(value) + " (" + why +
                      "). Change it, or name a model.size");
  }
}

}  // namespace

void validate(const ModelConfig& config) {
  require(config.layers > 0, "layers", config.layers, "must be at least 1");
  constexpr int64_t kMostLayers = 65536;  // each has parameters with names: a bound on their number
  require(config.layers <= kMostLayers, "layers", config.layers, "must be at most 65536");
  require(config.width > 0, "width", config.width, "must be at least 1");
  require(config.heads > 0, "heads", config.heads, "must be at least 1");
  require(config.kv_heads > 0 && config.heads % config.kv_heads == 0, "kv_heads", config.kv_heads,
          "must divide heads = " + std::to_string(config.heads));
  require(config.head_size > 0, "head_size", config.head_size, "must be at least 1");
  require(config.positions == Positions::learned || config.head_size % 2 == 0, "head_size",
          config.head_size, "must be even: rotary positions turn pairs");
  require(config.feed_forward > 0, "feed_forward", config.feed_forward, "must be at least 1");
  require(config.vocabulary > 0, "vocabulary", config.vocabulary, "must be at least 1");
  require(config.context > 0, "context", config.context, "must be at least 1");
  if (!(config.dropout >= 0 && config.dropout < 1)) {
    throw input_error("model.dropout = " + std::to_string(config.dropout) +
                      " (must lie in [0, 1)). Use 0 for none");
  }
}

int64_t parameter_count(const ModelConfig& config) {
  int64_t count = 0;
  for (const Parameter& parameter : parameter_list(config)) count += parameter.value.elements();
  return count;
}

}  // namespace normlab
