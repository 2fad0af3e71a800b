#include "engine/analysis/depth_page.h"

#include <algorithm>
#include <cmath>

#include "engine/analysis/chart.h"
#include "engine/analysis/page.h"
#include "engine/analysis/svg.h"
#include "engine/config_names.h"
#include "engine/log.h"

namespace normlab {
namespace {

// first, first + 1, …
std::vector<double> counted(double first, size_t count) {
  std::vector<double> numbers;
  for (size_t i = 0; i < count; ++i) numbers.push_back(first + static_cast<double>(i));
  return numbers;
}

Figure variance_figure(const DepthResult& result) {
  const std::vector<double> measured = {result.variances.begin() + 1, result.variances.end()};
  const FittedRecursion pre = fit(Recursion::pre, result.variances);
  const FittedRecursion lns = fit(Recursion::lns, result.variances);
  const std::vector<double> x = counted(0, measured.size());
  Chart chart{"Variance of each layer's output",
              {"layer l"},
              {"variance over the hidden dimension", scale_for(measured)},
              {{"measured", Mark::points, x, measured},
               {"Lemma 3.2, c = " + number_text(pre.c, 3), Mark::dashed, x, pre.variances},
               {"Lemma 4.1, c = " + number_text(lns.c, 3), Mark::dashed, x, lns.variances}}};
  return {draw(chart),
          "Mean over tokens of the population variance of the residual stream after each layer; "
          "before the first it is " +
              number_text(result.variances.front(), 3) +
              ". Dashed: the paper's recursions from the first layer's output on, σ²(k+1) = "
              "σ²(k)·(1 + c/σ(k)) for Pre-LN (Lemma 3.2) and σ²(k+1) = σ²(k)·(1 + c/(√k·σ(k))) for "
              "LayerNorm Scaling (Lemma 4.1), σ²(k) going into the k-th layer, with the c that "
              "fits the measured steps best by least squares. They are formulas beside a "
              "measurement, not claims about this model."};
}

Figure drop_figure(const DepthResult& result) {
  std::vector<double> drop;
  for (const double loss : result.loss_without) drop.push_back(loss - result.loss);
  const Scale scale = scale_for(drop);
  Chart chart{"Increase of the loss when a layer is left out",
              {"layer l that is left out"},
              {"increase, nats per token", scale},
              {{"increase", scale == Scale::linear ? Mark::bars : Mark::points,
                counted(0, drop.size()), drop}}};
  return {draw(chart),
          "Layer l + 1 reads what layer l read; all other layers keep their place, and with it "
          "their scale where the model has LayerNorm Scaling. Nothing is trained again."};
}

// rows[n − 1][l] of cells with l + n < L.
std::vector<std::vector<double>> by_distance(const AngularDistances& distances) {
  const size_t layers = distances.size();
  std::vector<std::vector<double>> rows;
  for (size_t n = 1; n < layers; ++n) {
    rows.emplace_back();
    for (size_t layer = 0; layer + n < layers; ++layer) {
      rows.back().push_back(distances[layer][n - 1]);
    }
  }
  return rows;
}

double largest(const std::vector<std::vector<double>>& rows) {
  double most = 0;
  for (const std::vector<double>& row : rows) {
    for (const double value : row) most = std::max(most, std::isfinite(value) ? value : 0);
  }
  return most;
}

HeatMap heat_map(const std::string& title, const std::string& value_title,
                 const std::string& symbol) {
  HeatMap map;
  map.title = title;
  map.x_title = "layer l";
  map.y_title = "n layers further";
  map.value_title = value_title;
  map.hover = symbol + "({x}, {x+y})";
  return map;
}

Figure angle_figure(const DepthResult& result) {
  HeatMap map = heat_map("Angular distance d(l, l+n), all tokens", "d, in units of π", "d");
  map.rows = by_distance(result.distances);
  // Tenths of the way to what would be opposite.
  map.high = std::max(0.1, std::ceil(10 * largest(map.rows)) / 10);
  return {draw(map),
          "d(l, l+n) = arccos(cos(x(l), x(l+n)))/π, mean over all tokens; x(l) is the stream that "
          "goes into layer l (Eq. 1). 0: the n layers change no direction; 0.5: a right angle. "
          "Bright cells to the lower right are layers that pass on what they read."};
}

Figure reference_figure(const DepthResult& result) {
  HeatMap map = heat_map("The reference's variant: last token, each row rescaled",
                         "relative within a row", "relative d");
  map.rows = result.reference_distances;
  return {draw(map),
          "As the public code draws it: of the last position of each sequence alone, each row "
          "clipped to its 1st and 99th percentile and scaled to [0, 1]. These numbers are no "
          "angles and cannot be compared between rows or models."};
}

Figure jacobian_figure(const DepthReport& report) {
  std::vector<double> mean, whole, all;
  for (const JacobianDistance& distance : report.result.jacobian) {
    mean.push_back(distance.token_mean);
    whole.push_back(distance.whole);
    all.insert(all.end(), {distance.token_mean, distance.whole});
  }
  const std::vector<double> x = counted(0, mean.size());
  Chart chart{"Distance of each layer's Jacobian from the identity",
              {"layer l"},
              {"root mean square of |J·u − u| / |u|", scale_for(all)},
              {{"token-averaged ∂y/∂x", Mark::points, x, mean},
               {"map of whole sequences", Mark::points, x, whole}}};
  return {draw(chart), "|J − I| in Frobenius's norm over √C (the root of the map's size), by " +
                           std::to_string(report.jacobian.projections) +
                           " random vectors u for each layer and central differences, over " +
                           count_text(report.result.jacobian_tokens) +
                           " tokens. 0: the layer is the identity."};
}

Figure bound_figure(const DepthResult& result) {
  const std::vector<double> pre = fit(Recursion::pre, result.variances).bounds;
  const std::vector<double> lns = fit(Recursion::lns, result.variances).bounds;
  const std::vector<double> x = counted(0, pre.size());
  Chart chart{"The theorems' products with the measured variances",
              {"layer l"},
              {"bound of |∂y(l)/∂x(0)|, A = B = 1", Scale::logarithmic},
              {{"Theorem 3.3 (Pre-LN)", Mark::dashed, x, pre},
               {"Theorem 4.2 (LayerNorm Scaling)", Mark::dashed, x, lns}}};
  return {
      draw(chart),
      "Products over the layers up to l, k from 1: Π(1 + A/σ(k) + B/σ(k)²) and Π(1 + A/(k·σ(k)) "
      "+ B/(k²·σ(k)²)). A and B are set to 1, so only the shapes mean something, and the "
      "growth that the paper derives from them is not asserted."};
}

Table table_of(const DepthResult& result) {
  Table table{{"layer", "variance of output", "angle to output, /π", "loss without", "increase"},
              {}};
  if (!result.jacobian.empty()) {
    table.heads.insert(table.heads.end(), {"|J̄ − I|/√C, tokens averaged", "|J − I|/√(NC), whole"});
  }
  for (size_t layer = 0; layer < result.loss_without.size(); ++layer) {
    std::vector<std::string> row = {std::to_string(layer), number_text(result.variances[layer + 1]),
                                    number_text(result.distances[layer].front()),
                                    number_text(result.loss_without[layer], 5),
                                    number_text(result.loss_without[layer] - result.loss, 3)};
    if (!result.jacobian.empty()) {
      row.push_back(number_text(result.jacobian[layer].token_mean));
      row.push_back(number_text(result.jacobian[layer].whole));
    }
    table.rows.push_back(row);
  }
  return table;
}

}  // namespace

std::string html(const DepthReport& report) {
  const DepthResult& result = report.result;
  const ModelConfig& config = report.config;
  Page page;
  page.title = "Depth of " + report.model;
  page.introduction =
      "What each layer adds, as “The Curse of Depth in Large Language Models” (arXiv 2502.05795) "
      "asks. Layers count from 0.";
  page.facts = {{"model", std::string(name_of(config.family, family_names)) + ", " +
                              std::to_string(config.layers) + " layers of width " +
                              std::to_string(config.width)},
                {"norms", std::string(name_of(config.norm.kind, norm_kind_names)) + ", " +
                              name_of(config.norm.placement, placement_names)},
                {"tokens", count_text(result.tokens) + " in " + count_text(result.sequences) +
                               " sequences of " + std::to_string(report.tokens_per_sequence)},
                {"loss", number_text(result.loss, 5) + " nats per token over " +
                             count_text(result.targets) + " targets"},
                {"computed in", report.precision + " on " + report.device}};
  page.figures.push_back(variance_figure(result));
  page.figures.push_back(drop_figure(result));
  if (config.layers > 1) {
    page.figures.push_back(angle_figure(result));
    page.figures.push_back(reference_figure(result));
  }
  if (!result.jacobian.empty()) page.figures.push_back(jacobian_figure(report));
  page.figures.push_back(bound_figure(result));
  page.table = table_of(result);
  page.footnote = "All numbers, angles to the last layer's output among them: depth.json.";
  return html(page);
}

}  // namespace normlab
