#include "engine/plain_model.h"

#include "engine/weights.h"

namespace normlab {
namespace {

bool is_foldable(const NormConfig& norm) {
  if (norm.gpas) return false;
  if (norm.placement == NormPlacement::pre) return true;
  return norm.placement == NormPlacement::lns && (norm.lns_position == LnsPosition::after_norm ||
                                                  norm.lns_position == LnsPosition::after_sublayer);
}

std::vector<float> numbers_of(const Model& model, const std::string& name) {
  const int index = find_parameter(model.parameters(), name);
  return download_floats(model.ops(), model.parameters()[static_cast<size_t>(index)].value);
}

class Folding {
 public:
  Folding(Model& plain, const Model& model) : plain_(plain), model_(model) {}

  void copy_parameters() {
    for (const Parameter& parameter : plain_.parameters()) {
      upload_floats(plain_.ops(), parameter.value, numbers_of(model_, parameter.name));
    }
  }
  // The factors after the norms.
  void fold_norms() {
    for (size_t i = 0; i < model_.norm_sites().size(); ++i) {
      const NormSite& from = model_.norm_sites()[i];
      const NormSite& to = plain_.norm_sites()[i];
      plain_.set_norm_state(i, from.state);
      // Gain and bias are those of queries and keys.
      if (to.role == NormRole::attention_v) continue;
      scale(to.gain, {from.scale});
      if (to.bias >= 0) scale(to.bias, {from.scale});
    }
  }
  // The factors after sublayer `sublayer` of a layer, "attention" or "mlp"; `constant` is the
  // placement's.
  void fold_branch(int64_t layer, const std::string& sublayer, double constant) {
    const std::string prefix = "layers." + std::to_string(layer) + "." + sublayer + ".";
    std::vector<double> factors = {constant};
    if (model_.config().norm.branch != BranchScale::none) {
      factors.clear();
      for (const float learnt : numbers_of(model_, prefix + "branch_scale")) {
        factors.push_back(constant * learnt);
      }
    }
    scale(find_parameter(plain_.parameters(), prefix + "out.weight"), factors);
    const int bias = find_parameter_or_none(plain_.parameters(), prefix + "out.bias");
    if (bias >= 0) scale(bias, factors);
  }

 private:
  // Rows of a matrix, or elements of a vector, by as many factors, or all by one.
  void scale(int index, const std::vector<double>& factors) {
    const Tensor value = plain_.parameters()[static_cast<size_t>(index)].value;
    std::vector<float> numbers = download_floats(plain_.ops(), value);
    const size_t of_each = numbers.size() / factors.size();
    for (size_t i = 0; i < numbers.size(); ++i) {
      numbers[i] = static_cast<float>(factors[i / of_each] * numbers[i]);
    }
    upload_floats(plain_.ops(), value, numbers);
  }

  Model& plain_;
  const Model& model_;
};

}  // namespace

ModelConfig plain_config(const ModelConfig& config) {
  ModelConfig plain = config;
  if (!is_foldable(config.norm)) return plain;
  plain.norm.placement = NormPlacement::pre;
  plain.norm.branch = BranchScale::none;
  return plain;
}

void fill_plain(Model& plain, const Model& model) {
  Folding folding(plain, model);
  folding.copy_parameters();
  folding.fold_norms();
  const ModelConfig& config = model.config();
  const std::vector<PlannedJoint> joints = norm_plan(config.norm, config.layers);
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const auto first = static_cast<size_t>(2 * layer);
    folding.fold_branch(layer, "attention", joints[first + 1].branch_scale);
    folding.fold_branch(layer, "mlp", joints[first + 2].branch_scale);
  }
}

}  // namespace normlab
