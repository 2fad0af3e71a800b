#include "engine/analysis/stream_statistics.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "engine/evaluation.h"

namespace normlab {
namespace {

// Eight sums side by side: the processor need not wait for each addition.
double dot(std::span<const double> x, std::span<const double> y) {
  constexpr size_t kSums = 8;
  double sums[kSums] = {};
  size_t i = 0;
  for (; i + kSums <= x.size(); i += kSums) {
    for (size_t k = 0; k < kSums; ++k) sums[k] += x[i + k] * y[i + k];
  }
  for (; i < x.size(); ++i) sums[0] += x[i] * y[i];
  return std::accumulate(std::begin(sums), std::end(sums), 0.0);
}

double norm(std::span<const double> x) { return std::sqrt(dot(x, x)); }

void scale_row(std::vector<double>& row) {
  std::vector<double> sorted = row;
  std::sort(sorted.begin(), sorted.end(), smaller);
  if (std::isnan(sorted.back())) {
    std::fill(row.begin(), row.end(), sorted.back());
    return;
  }
  const double low = percentile(sorted, 1), high = percentile(sorted, 99);
  for (double& value : row) {
    value = high > low ? (std::clamp(value, low, high) - low) / (high - low) : 0;
  }
}

}  // namespace

double population_variance(std::span<const double> x) {
  const auto count = static_cast<double>(x.size());
  const double mean = std::accumulate(x.begin(), x.end(), 0.0) / count;
  double squares = 0;
  for (const double value : x) squares += (value - mean) * (value - mean);
  return squares / count;
}

double angular_distance(double dot, double norm_x, double norm_y) {
  if (norm_x == 0 || norm_y == 0) return 0.5;
  return std::acos(std::clamp(dot / (norm_x * norm_y), -1.0, 1.0)) / std::numbers::pi;
}

double angular_distance(std::span<const double> x, std::span<const double> y) {
  return angular_distance(dot(x, y), norm(x), norm(y));
}

AngularDistances no_distances(int64_t layers) {
  AngularDistances distances;
  for (int64_t layer = 0; layer < layers; ++layer) {
    distances.emplace_back(static_cast<size_t>(layers - layer));
  }
  return distances;
}

StreamStatistics::StreamStatistics(int64_t layers)
    : variance_sums_(static_cast<size_t>(layers + 1)), distance_sums_(no_distances(layers)) {}

std::vector<double> StreamStatistics::add(const std::vector<std::span<const double>>& states) {
  std::vector<double> norms;
  for (size_t state = 0; state < states.size(); ++state) {
    variance_sums_[state] += population_variance(states[state]);
    norms.push_back(norm(states[state]));
  }
  for (size_t layer = 0; layer < distance_sums_.size(); ++layer) {
    for (size_t n = 1; n <= distance_sums_[layer].size(); ++n) {
      distance_sums_[layer][n - 1] +=
          angular_distance(dot(states[layer], states[layer + n]), norms[layer], norms[layer + n]);
    }
  }
  ++tokens_;
  return norms;
}

std::vector<double> StreamStatistics::variances() const {
  std::vector<double> means = variance_sums_;
  for (double& mean : means) mean /= static_cast<double>(tokens_);
  return means;
}

AngularDistances StreamStatistics::distances() const {
  AngularDistances means = distance_sums_;
  for (std::vector<double>& row : means) {
    for (double& mean : row) mean /= static_cast<double>(tokens_);
  }
  return means;
}

ReferenceDistances::ReferenceDistances(int64_t layers)
    : layers_(layers),
      sums_(static_cast<size_t>(layers - 1), std::vector<double>(static_cast<size_t>(layers))) {}

void ReferenceDistances::add(const std::vector<std::span<const double>>& states,
                             std::span<const double> final) {
  const auto layers = static_cast<size_t>(layers_);
  for (size_t n = 1; n < layers; ++n) {
    for (size_t layer = 0; layer + n <= layers; ++layer) {
      const std::span<const double> other = layer + n < layers ? states[layer + n] : final;
      sums_[n - 1][layer] += angular_distance(states[layer], other);
    }
  }
  ++sequences_;
}

std::vector<std::vector<double>> ReferenceDistances::rows() const {
  std::vector<std::vector<double>> rows = sums_;
  for (size_t n = 1; n <= rows.size(); ++n) {
    std::vector<double>& row = rows[n - 1];
    for (double& mean : row) mean /= static_cast<double>(sequences_);
    scale_row(row);
    row.resize(static_cast<size_t>(layers_) - n);
  }
  return rows;
}

}  // namespace normlab
