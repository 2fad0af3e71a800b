#include "engine/fold.h"

#include "engine/weights.h"

namespace normlab {
namespace {

std::vector<float> numbers_of(const Model& model, int parameter) {
  return download_floats(model.ops(), model.parameters()[static_cast<size_t>(parameter)].value);
}

// A linear map y = W·x + b, W (rows, columns).
struct LinearMap {
  std::vector<float> weight;
  std::vector<float> bias;
};

// What a norm does once its std is given: y = gain ⊙ (x − mean) + shift, σ and a constant scale
// being within.
class FixedNorm {
 public:
  FixedNorm(const Model& model, const NormSite& site) {
    check(site.state.gate == 0 && !site.state.has_special(),
          "a norm that is folded divides every token by the same σ");
    centres_ = model.config().norm.kind == NormKind::layernorm;
    for (const float gain : numbers_of(model, site.gain)) {
      gain_.push_back(site.scale * gain / site.state.sigma);
    }
    shift_.resize(gain_.size());
    if (site.bias < 0) return;
    const std::vector<float> bias = numbers_of(model, site.bias);
    for (size_t i = 0; i < bias.size(); ++i) shift_[i] = site.scale * bias[i];
  }

  // Rows [first, first + count) of what reads the norm's output, made to read its input.
  void fold_into(LinearMap& reader, int64_t first, int64_t count) const {
    const size_t columns = gain_.size();
    for (auto row = static_cast<size_t>(first); row < static_cast<size_t>(first + count); ++row) {
      float* weight = reader.weight.data() + row * columns;
      double shifted = 0, mean = 0;
      for (size_t i = 0; i < columns; ++i) {
        shifted += weight[i] * shift_[i];
        mean += weight[i] * gain_[i];
      }
      mean = centres_ ? mean / static_cast<double>(columns) : 0;
      for (size_t i = 0; i < columns; ++i) {
        weight[i] = static_cast<float>(weight[i] * gain_[i] - mean);
      }
      if (!reader.bias.empty()) reader.bias[row] = static_cast<float>(reader.bias[row] + shifted);
    }
  }

 private:
  bool centres_ = false;
  std::vector<double> gain_, shift_;
};

class Folding {
 public:
  Folding(Model& folded, const Model& frozen) : folded_(folded), frozen_(frozen) {}

  void copy_parameters() {
    for (const Parameter& parameter : folded_.parameters()) {
      const int same = find_parameter_or_none(frozen_.parameters(), parameter.name);
      write(parameter, same < 0 ? zeros(parameter) : numbers_of(frozen_, same));
    }
  }
  void fold_layer(int64_t layer) {
    const ModelConfig& config = frozen_.config();
    const std::string prefix = "layers." + std::to_string(layer) + ".";
    const int64_t queries_and_keys = config.query_columns() + config.kv_columns();
    LinearMap qkv = reader(prefix + "attention.qkv");
    norm_at(NormRole::attention_qk, layer).fold_into(qkv, 0, queries_and_keys);
    norm_at(NormRole::attention_v, layer).fold_into(qkv, queries_and_keys, config.kv_columns());
    write(prefix + "attention.qkv", qkv);
    LinearMap in = reader(prefix + "mlp.in");
    norm_at(NormRole::mlp, layer).fold_into(in, 0, config.hidden_columns());
    write(prefix + "mlp.in", in);
  }
  void fold_head() {
    LinearMap head = reader("head");
    norm_at(NormRole::final, -1).fold_into(head, 0, frozen_.config().vocabulary);
    write("head", head);
  }

 private:
  static std::vector<float> zeros(const Parameter& parameter) {
    return std::vector<float>(static_cast<size_t>(parameter.value.elements()));
  }
  FixedNorm norm_at(NormRole role, int64_t layer) const {
    for (const NormSite& site : frozen_.norm_sites()) {
      if (site.role == role && site.layer == layer) return {frozen_, site};
    }
    throw Error("no norm to fold where one was planned");
  }
  // As it stands before folding, with a bias of zeros where only the folded model has one.
  LinearMap reader(const std::string& name) const {
    const auto& parameters = frozen_.parameters();
    int weight = find_parameter_or_none(parameters, name + ".weight");
    if (weight < 0) weight = find_parameter(parameters, "embedding.token");  // a tied head
    LinearMap map{numbers_of(frozen_, weight), {}};
    const int bias = find_parameter_or_none(folded_.parameters(), name + ".bias");
    if (bias < 0) return map;
    const int own = find_parameter_or_none(parameters, name + ".bias");
    map.bias =
        own < 0 ? zeros(folded_.parameters()[static_cast<size_t>(bias)]) : numbers_of(frozen_, own);
    return map;
  }
  void write(const std::string& name, const LinearMap& map) {
    const auto& parameters = folded_.parameters();
    write(parameters[static_cast<size_t>(find_parameter(parameters, name + ".weight"))],
          map.weight);
    const int bias = find_parameter_or_none(parameters, name + ".bias");
    if (bias >= 0) write(parameters[static_cast<size_t>(bias)], map.bias);
  }
  void write(const Parameter& parameter, const std::vector<float>& numbers) {
    upload_floats(folded_.ops(), parameter.value, numbers);
  }

  Model& folded_;
  const Model& frozen_;
};

}  // namespace

ModelConfig folded_config(const ModelConfig& config) {
  ModelConfig folded = config;
  if (config.norm.placement == NormPlacement::none) return folded;
  check(config.norm.placement == NormPlacement::pre, "norms before what they are folded into");
  folded.norm.placement = NormPlacement::none;
  folded.tie_embeddings = false;
  if (config.norm.kind == NormKind::rmsnorm) return folded;
  folded.biases = Biases::all;
  folded.head_bias = true;
  return folded;
}

void fold_norms(Model& folded, const Model& frozen) {
  Folding folding(folded, frozen);
  folding.copy_parameters();
  if (frozen.config().norm.placement == NormPlacement::none) return;
  for (int64_t layer = 0; layer < frozen.config().layers; ++layer) folding.fold_layer(layer);
  folding.fold_head();
}

}  // namespace normlab
