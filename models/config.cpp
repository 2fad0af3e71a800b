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

void require_between(int64_t least, int64_t most, const std::string& key, int64_t value) {
  require(value >= least, key, value, "must be at least " + std::to_string(least));
  require(value <= most, key, value, "must be at most " + std::to_string(most));
}

// Beyond any model that can be: the number of its parameters stays within 64 bits, and a damaged
// config.json is refused before they are listed and looked up, each among all others.
constexpr int64_t most_layers = 1024;
constexpr int64_t most_columns = int64_t{1} << 20;
constexpr int64_t most_rows = int64_t{1} << 24;

void validate_norm(const NormConfig& norm, int64_t layers) {
  if (norm.placement == NormPlacement::mix) {
    require_between(0, layers, "norm.post_layers", norm.post_layers);
  }
  if (norm.placement == NormPlacement::lns && norm.lns_position == LnsPosition::before_norm &&
      is_elementwise(norm.kind)) {
    throw input_error(
        "model.norm.lns_position = before_norm (a factor before dyt or derf is their slope's). "
        "Use layernorm or rmsnorm, or another position");
  }
}

}  // namespace

void validate(const ModelConfig& config) {
  require_between(1, most_layers, "layers", config.layers);
  require_between(1, most_columns, "width", config.width);
  require_between(1, most_columns, "heads", config.heads);
  require(config.kv_heads > 0 && config.heads % config.kv_heads == 0, "kv_heads", config.kv_heads,
          "must divide heads = " + std::to_string(config.heads));
  require_between(1, most_columns / config.heads, "head_size", config.head_size);
  require(config.positions == Positions::learned || config.head_size % 2 == 0, "head_size",
          config.head_size, "must be even: rotary positions turn pairs");
  require_between(1, most_columns, "feed_forward", config.feed_forward);
  require_between(1, most_rows, "vocabulary", config.vocabulary);
  require_between(1, most_rows, "context", config.context);
  if (!(config.dropout >= 0 && config.dropout < 1)) {
    throw input_error("model.dropout = " + std::to_string(config.dropout) +
                      " (must lie in [0, 1)). Use 0 for none");
  }
  validate_norm(config.norm, config.layers);
}

int64_t parameter_count(const ModelConfig& config) {
  int64_t count = 0;
  for (const Parameter& parameter : parameter_list(config)) count += parameter.value.elements();
  return count;
}

}  // namespace normlab
