#include "models/parameter.h"

#include <cmath>

#include "models/norm_plan.h"

namespace normlab {
namespace {

// λ of every branch at the start.
double branch_start(const ModelConfig& config) {
  if (config.norm.branch_init > 0) return config.norm.branch_init;
  if (config.norm.branch == BranchScale::skipinit) {
    return 1 / std::sqrt(static_cast<double>(config.layers));
  }
  return config.layers <= 18 ? 0.1 : config.layers <= 24 ? 1e-5 : 1e-6;
}

// Appends parameters; keeps the running logical offset.
class ListBuilder {
 public:
  explicit ListBuilder(const ModelConfig& config) : config_(config) {}

  Parameter& matrix(const std::string& name, int64_t layer, int64_t out, int64_t in, double std) {
    Parameter& parameter = add(name, layer, {out, in});
    parameter.decays = true;
    parameter.rule = InitRule::normal;
    parameter.std = parameter.last_std = std;
    parameter.last_rows = out;
    return parameter;
  }
  void bias(const std::string& name, int64_t layer, int64_t size, Biases least = Biases::all) {
    if (config_.biases >= least) vector(name, layer, size, 0);
  }
  void norm(const std::string& name, int64_t layer) {
    const NormConfig& norm = config_.norm;
    if (norm.placement == NormPlacement::none) return;
    vector(name + ".gain", layer, config_.width, 1);
    if (norm.kind != NormKind::rmsnorm) vector(name + ".bias", layer, config_.width, 0);
    if (is_elementwise(norm.kind)) vector(name + ".slope", layer, 1, norm.slope_init);
    if (norm.kind == NormKind::derf) vector(name + ".shift", layer, 1, 0);
  }
  void output_norm(const std::string& name, int64_t layer) {
    if (block_of(config_.norm, layer) == Block::sandwich) norm(name, layer);
  }
  void branch_scale(const std::string& name, int64_t layer) {
    const bool one = config_.norm.branch == BranchScale::skipinit;
    if (config_.norm.branch == BranchScale::none) return;
    vector(name, layer, one ? 1 : config_.width, branch_start(config_));
  }
  void vector(const std::string& name, int64_t layer, int64_t size, double start) {
    add(name, layer, {1, size}).start = start;
  }
  void head() {
    if (!config_.tie_embeddings) {
      matrix("head.weight", -1, config_.vocabulary, config_.width, config_.init.std);
    }
    if (config_.head_bias) {
      vector("head.bias", -1, config_.vocabulary, 0);
    }
  }
  std::vector<Parameter> take() { return std::move(list_); }

 private:
  Parameter& add(const std::string& name, int64_t layer, Shape shape) {
    Parameter& parameter = list_.emplace_back();
    parameter.name = name;
    parameter.value = Tensor(nullptr, DType::f32, shape);
    parameter.layer = layer;
    parameter.logical_offset = logical_offset_;
    logical_offset_ += shape.elements();
    return parameter;
  }

  const ModelConfig& config_;
  std::vector<Parameter> list_;
  int64_t logical_offset_ = 0;
};

// Xavier's std of a matrix (out, in), or of one of those packed in it, times `gain`.
double xavier_std(int64_t out, int64_t in, double gain) {
  return gain * std::sqrt(2.0 / static_cast<double>(out + in));
}

// The stds of a layer's matrices.
class LayerStd {
 public:
  LayerStd(const ModelConfig& config, int64_t layer) : config_(config), layer_(layer) {}

  // A matrix whose gain is 1 in DeepNorm.
  double plain(int64_t out, int64_t in) const {
    return is_xavier() ? xavier_std(out, in, 1) : config_.init.std;
  }
  // One whose gain is DeepNorm's β.
  double gained(int64_t out, int64_t in) const {
    return is_xavier() ? xavier_std(out, in, gain()) : config_.init.std;
  }
  // A projection back into the residual stream.
  double residual(int64_t out, int64_t in) const {
    switch (config_.init.kind) {
      case InitKind::normal:
        return config_.init.std;
      case InitKind::scaled:
        return config_.init.std / std::sqrt(2.0 * static_cast<double>(config_.layers));
      case InitKind::depth_scaled:
        return config_.init.std / std::sqrt(2.0 * static_cast<double>(layer_ + 1));
      case InitKind::deepnorm:
      case InitKind::deepnorm_reference:
        return gained(out, in);
    }
    throw Error("unknown initialisation");
  }

 private:
  bool is_xavier() const {
    return config_.init.kind == InitKind::deepnorm ||
           config_.init.kind == InitKind::deepnorm_reference;
  }
  double gain() const {
    const double sign = config_.init.kind == InitKind::deepnorm ? -1 : 1;
    return std::pow(8.0 * static_cast<double>(config_.layers), sign * 0.25);
  }

  const ModelConfig& config_;
  int64_t layer_;
};

void add_layer(ListBuilder& list, const ModelConfig& config, int64_t layer) {
  const std::string prefix = "layers." + std::to_string(layer) + ".";
  const LayerStd std(config, layer);
  const int64_t width = config.width;
  list.norm(prefix + "attention.norm", layer);
  Parameter& qkv = list.matrix(prefix + "attention.qkv.weight", layer, config.packed_columns(),
                               width, std.plain(config.query_columns(), width));
  qkv.last_rows = config.query_columns() + config.kv_columns();
  qkv.last_std = std.gained(config.kv_columns(), width);
  list.bias(prefix + "attention.qkv.bias", layer, config.packed_columns(), Biases::qkv);
  list.matrix(prefix + "attention.out.weight", layer, width, config.query_columns(),
              std.residual(width, config.query_columns()));
  list.bias(prefix + "attention.out.bias", layer, width);
  list.output_norm(prefix + "attention.output_norm", layer);
  list.branch_scale(prefix + "attention.branch_scale", layer);
  list.norm(prefix + "mlp.norm", layer);
  list.matrix(prefix + "mlp.in.weight", layer, config.hidden_columns(), width,
              std.gained(config.feed_forward, width));
  list.bias(prefix + "mlp.in.bias", layer, config.hidden_columns());
  list.matrix(prefix + "mlp.out.weight", layer, width, config.feed_forward,
              std.residual(width, config.feed_forward));
  list.bias(prefix + "mlp.out.bias", layer, width);
  list.output_norm(prefix + "mlp.output_norm", layer);
  list.branch_scale(prefix + "mlp.branch_scale", layer);
  if (config.norm.gpas) list.vector(prefix + "gpas", layer, 1, 0);
}

}  // namespace

std::vector<Parameter> parameter_list(const ModelConfig& config) {
  ListBuilder list(config);
  list.matrix("embedding.token", -1, config.vocabulary, config.width, config.init.embedding_std);
  if (config.positions == Positions::learned) {
    list.matrix("embedding.position", -1, config.context, config.width, config.init.std);
  }
  if (config.norm.placement == NormPlacement::peri) list.norm("embedding.norm", -1);
  for (int64_t layer = 0; layer < config.layers; ++layer) add_layer(list, config, layer);
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
