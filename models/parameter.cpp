#include "models/parameter.h"

#include <cmath>

#include "models/norm_plan.h"

namespace normlab {
namespace {

// Appends parameters; keeps the running logical offset.
class ListBuilder {
 public:
  explicit ListBuilder(const ModelConfig& config) : config_(config) {}

  void matrix(const std::string& name, int64_t layer, int64_t out, int64_t in, double std) {
    add(name, layer, {out, in}, InitRule::normal, std, true);
  }
  void bias(const std::string& name, int64_t layer, int64_t size, Biases least = Biases::all) {
    if (config_.biases >= least) add(name, layer, {1, size}, InitRule::zeros, 0, false);
  }
  void norm(const std::string& name, int64_t layer) {
    if (config_.norm.placement == NormPlacement::none) return;
    add(name + ".gain", layer, {1, config_.width}, InitRule::ones, 0, false);
    if (config_.norm.kind == NormKind::layernorm) {
      add(name + ".bias", layer, {1, config_.width}, InitRule::zeros, 0, false);
    }
  }
  void head() {
    if (!config_.tie_embeddings) {
      matrix("head.weight", -1, config_.vocabulary, config_.width, config_.init.std);
    }
    if (config_.head_bias) {
      add("head.bias", -1, {1, config_.vocabulary}, InitRule::zeros, 0, false);
    }
  }
  std::vector<Parameter> take() { return std::move(list_); }

 private:
  void add(const std::string& name, int64_t layer, Shape shape, InitRule rule, double std,
           bool decays) {
    Parameter parameter;
    parameter.name = name;
    parameter.value = Tensor(nullptr, DType::f32, shape);
    parameter.decays = decays;
    parameter.layer = layer;
    parameter.rule = rule;
    parameter.std = std;
    parameter.logical_offset = logical_offset_;
    logical_offset_ += shape.elements();
    list_.push_back(parameter);
  }

  const ModelConfig& config_;
  std::vector<Parameter> list_;
  int64_t logical_offset_ = 0;
};

double residual_std(const ModelConfig& config) {
  switch (config.init.kind) {
    case InitKind::normal:
      return config.init.std;
    case InitKind::scaled:
      return config.init.std / std::sqrt(2.0 * static_cast<double>(config.layers));
  }
  return config.init.std;
}

}  // namespace

std::vector<Parameter> parameter_list(const ModelConfig& config) {
  ListBuilder list(config);
  const double std = config.init.std;
  list.matrix("embedding.token", -1, config.vocabulary, config.width, config.init.embedding_std);
  if (config.positions == Positions::learned) {
    list.matrix("embedding.position", -1, config.context, config.width, std);
  }
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string prefix = "layers." + std::to_string(layer) + ".";
    list.norm(prefix + "attention.norm", layer);
    list.matrix(prefix + "attention.qkv.weight", layer, config.packed_columns(), config.width, std);
    list.bias(prefix + "attention.qkv.bias", layer, config.packed_columns(), Biases::qkv);
    list.matrix(prefix + "attention.out.weight", layer, config.width, config.query_columns(),
                residual_std(config));
    list.bias(prefix + "attention.out.bias", layer, config.width);
    list.norm(prefix + "mlp.norm", layer);
    list.matrix(prefix + "mlp.in.weight", layer, config.hidden_columns(), config.width, std);
    list.bias(prefix + "mlp.in.bias", layer, config.hidden_columns());
    list.matrix(prefix + "mlp.out.weight", layer, config.width, config.feed_forward,
                residual_std(config));
    list.bias(prefix + "mlp.out.bias", layer, config.width);
  }
  list.norm("final.norm", -1);
  list.head();
  return list.take();
}

std::vector<Bucket> assign_buckets(std::vector<Parameter>& parameters, int64_t layers) {
  std::vector<Bucket> buckets(static_cast<size_t>(layers + 2));
  const int last = static_cast<int>(layers) + 1;
  for (Parameter& parameter : parameters) {
    const bool embedding = parameter.name.starts_with("embedding.");
    parameter.bucket =
        embedding ? last : (parameter.layer < 0 ? 0 : static_cast<int>(layers - parameter.layer));
  }
  int64_t offset = 0;
  const auto aligned = [](int64_t elements) {
    return (elements + kBucketAlignment - 1) / kBucketAlignment * kBucketAlignment;
  };
  for (int number = 0; number <= last; ++number) {
    Bucket& bucket = buckets[static_cast<size_t>(number)];
    bucket.embeddings = number == last;
    bucket.begin = offset;
    for (const bool decays : {true, false}) {
      for (Parameter& parameter : parameters) {
        if (parameter.bucket != number || parameter.decays != decays) continue;
        parameter.arena_offset = offset;
        offset += aligned(parameter.value.elements());
      }
      if (decays) bucket.decay_end = offset;
    }
    bucket.end = offset;
  }
  return buckets;
}

int find_parameter_or_none(const std::vector<Parameter>& parameters, const std::string& name) {
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (parameters[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

int find_parameter(const std::vector<Parameter>& parameters, const std::string& name) {
  const int index = find_parameter_or_none(parameters, name);
  check(index >= 0, ("a parameter named " + name).c_str());
  return index;
}

}  // namespace normlab
