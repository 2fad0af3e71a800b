#include "engine/ln_free.h"

#include <algorithm>

#include "engine/weights.h"

namespace normlab {
namespace {

// σ of the norm at a site.
double sigma_at(const std::vector<NormRecord>& norms, const NormSite& site) {
  for (const NormRecord& norm : norms) {
    if (same_place(norm, {site.role, site.layer, {}})) return norm.state.sigma;
  }
  throw Error(place_of({site.role, site.layer, {}}) + " has no σ");
}

Tensor storage_of(const Model& model, const std::string& name, Tensor masters) {
  const auto index = static_cast<size_t>(find_parameter(model.parameters(), name));
  const Parameter& parameter = model.parameters()[index];
  return masters ? parameter.part_of(masters) : parameter.value;
}

// W_v ← r·W_v and b_v ← b_v + (1 − r)·W_v·β: the same values from a norm whose gain is 1/r of what
// it was. With 1/r the way back.
void scale_values(Model& model, int64_t layer, double ratio, Tensor masters) {
  Ops& ops = model.ops();
  const ModelConfig& config = model.config();
  const std::string prefix = "layers." + std::to_string(layer) + ".attention.";
  const int64_t first = config.query_columns() + config.kv_columns();
  const Tensor weight =
      storage_of(model, prefix + "qkv.weight", masters).row_slice(first, config.kv_columns());
  std::vector<float> weights = download_floats(ops, weight);
  if (config.norm.kind == NormKind::layernorm) {
    const std::vector<float> shift =
        download_floats(ops, storage_of(model, prefix + "norm.bias", masters));
    const Tensor bias =
        storage_of(model, prefix + "qkv.bias", masters).column_slice(first, config.kv_columns());
    std::vector<float> biases = download_floats(ops, bias);
    for (size_t row = 0; row < biases.size(); ++row) {
      double sum = 0;
      for (size_t i = 0; i < shift.size(); ++i) {
        sum += static_cast<double>(weights[row * shift.size() + i]) * shift[i];
      }
      biases[row] = static_cast<float>(biases[row] + (1 - ratio) * sum);
    }
    upload_floats(ops, bias, biases);
  }
  for (float& number : weights) number = static_cast<float>(ratio * number);
  upload_floats(ops, weight, weights);
}

enum class Direction { into_values, out_of_values };
void move_ratios(Model& model, const std::vector<NormRecord>& norms, Direction direction,
                 Tensor masters) {
  for (const NormSite& site : model.norm_sites()) {
    if (site.role != NormRole::attention_qk) continue;
    NormSite values = site;
    values.role = NormRole::attention_v;
    const double of_queries = sigma_at(norms, site), of_values = sigma_at(norms, values);
    if (of_queries == of_values) continue;
    const bool into = direction == Direction::into_values;
    scale_values(model, site.layer, into ? of_queries / of_values : of_values / of_queries,
                 masters);
  }
}

}  // namespace

ModelConfig ln_free_config(const ModelConfig& config, double scale) {
  ModelConfig stock = config;
  stock.norm.epsilon = scale * scale;
  return stock;
}

void fill_ln_free(Model& stock, const Model& frozen, double scale) {
  Ops& ops = stock.ops();
  const std::vector<NormRecord> norms = norm_records(frozen);
  const std::vector<double> factors = ln_free_factors(frozen, norms, scale);
  for (size_t i = 0; i < factors.size(); ++i) {
    std::vector<float> numbers = download_floats(frozen.ops(), frozen.parameters()[i].value);
    for (float& number : numbers) number = static_cast<float>(number / factors[i]);
    upload_floats(ops, stock.parameters()[i].value, numbers);
  }
  move_ratios(stock, norms, Direction::into_values, {});
}

std::vector<double> ln_free_factors(const Model& model, const std::vector<NormRecord>& norms,
                                    double scale) {
  std::vector<double> factors(model.parameters().size(), 1);
  for (const NormSite& site : model.norm_sites()) {
    // Its gain is that of queries and keys.
    if (site.role == NormRole::attention_v) continue;
    factors[static_cast<size_t>(site.gain)] = sigma_at(norms, site) / scale;
  }
  return factors;
}

void restore_values(Model& model, const std::vector<NormRecord>& norms, Tensor masters) {
  move_ratios(model, norms, Direction::out_of_values, masters);
}

}  // namespace normlab
