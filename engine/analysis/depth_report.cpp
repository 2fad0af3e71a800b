#include "engine/analysis/depth_report.h"

#include <cmath>
#include <iomanip>
#include <nlohmann/json.hpp>

#include "engine/config_names.h"

namespace normlab {
namespace {

using nlohmann::ordered_json;

ordered_json number(double value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
}

ordered_json numbers(const std::vector<double>& values) {
  ordered_json list = ordered_json::array();
  for (const double value : values) list.push_back(number(value));
  return list;
}

ordered_json rows(const std::vector<std::vector<double>>& values) {
  ordered_json list = ordered_json::array();
  for (const std::vector<double>& row : values) list.push_back(numbers(row));
  return list;
}

std::vector<double> drops(const DepthResult& result) {
  std::vector<double> drops;
  for (const double loss : result.loss_without) drops.push_back(loss - result.loss);
  return drops;
}

ordered_json recursion_json(Recursion recursion, const std::vector<double>& variances) {
  const FittedRecursion fitted = fit(recursion, variances);
  return {{"c", number(fitted.c)},
          {"variances", numbers(fitted.variances)},
          {"gradient_bounds", numbers(fitted.bounds)}};
}

ordered_json jacobian_json(const DepthReport& report) {
  ordered_json json = {{"projections", report.jacobian.projections},
                       {"seed", report.jacobian.seed},
                       {"tokens", report.result.jacobian_tokens}};
  for (const JacobianDistance& distance : report.result.jacobian) {
    json["token_mean"].push_back(number(distance.token_mean));
    json["whole"].push_back(number(distance.whole));
  }
  return json;
}

}  // namespace

FittedRecursion fit(Recursion recursion, const std::vector<double>& variances) {
  FittedRecursion fitted;
  const std::vector<double> outputs = {variances.begin() + 1, variances.end()};
  fitted.c = fitted_constant(recursion, outputs, 2);
  fitted.variances =
      variances_by(recursion, fitted.c, outputs.front(), 2, static_cast<int64_t>(outputs.size()));
  fitted.bounds = gradient_bounds(recursion, {variances.begin(), variances.end() - 1}, 1, 1);
  return fitted;
}

ordered_json to_json(const DepthReport& report) {
  const DepthResult& result = report.result;
  ordered_json json = {{"model", report.model},
                       {"family", name_of(report.config.family, family_names)},
                       {"layers", report.config.layers},
                       {"width", report.config.width},
                       {"norm", name_of(report.config.norm.kind, norm_kind_names)},
                       {"placement", name_of(report.config.norm.placement, placement_names)},
                       {"device", report.device},
                       {"precision", report.precision},
                       {"sequence_length", report.tokens_per_sequence},
                       {"sequences", result.sequences},
                       {"tokens", result.tokens},
                       {"targets", result.targets},
                       {"variance", numbers(result.variances)},
                       {"angular_distance", rows(result.distances)},
                       {"angular_distance_reference", rows(result.reference_distances)},
                       {"loss", number(result.loss)},
                       {"loss_without", numbers(result.loss_without)},
                       {"loss_drop", numbers(drops(result))}};
  if (!result.jacobian.empty()) json["jacobian"] = jacobian_json(report);
  json["recursion_pre"] = recursion_json(Recursion::pre, result.variances);
  json["recursion_lns"] = recursion_json(Recursion::lns, result.variances);
  return json;
}

void print(std::ostream& out, const DepthReport& report) {
  const DepthResult& result = report.result;
  const auto cell = [&](double value) { out << std::setw(14) << value; };
  out << "loss " << result.loss << " nats per token over " << result.targets
      << " targets; variance before layer 0: " << result.variances.front() << "\n"
      << "layer      variance   angle/pi to  loss without     loss drop";
  if (!result.jacobian.empty()) out << "   |mean J - I|       |J - I|";
  out << "\n           of output    the output     the layer  (nats/token)";
  if (!result.jacobian.empty()) out << "      / sqrt(C)    / sqrt(NC)";
  out << "\n";
  const std::vector<double> drop = drops(result);
  for (size_t layer = 0; layer < drop.size(); ++layer) {
    out << std::setw(5) << layer;
    cell(result.variances[layer + 1]);
    cell(result.distances[layer].front());
    cell(result.loss_without[layer]);
    cell(drop[layer]);
    if (!result.jacobian.empty()) {
      cell(result.jacobian[layer].token_mean);
      cell(result.jacobian[layer].whole);
    }
    out << "\n";
  }
}

}  // namespace normlab
