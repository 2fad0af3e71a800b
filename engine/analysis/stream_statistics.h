// What the residual stream of a token looks like from layer to layer.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace normlab {

// Of one token: mean of squares about the mean, over the hidden dimension.
double population_variance(std::span<const double> x);
// arccos(x·y / (|x|·|y|)) / π in [0, 1], the cosine clamped to [−1, 1] ("The Curse of Depth",
// eq. 1). A stream of zeros is at a right angle to everything: 1/2.
double angular_distance(double dot, double norm_x, double norm_y);
double angular_distance(std::span<const double> x, std::span<const double> y);

// States of the residual stream: x_0 goes into layer 0, x_l into layer l, x_L comes out of the last
// one (before the final norm).
// distances[l][n − 1] = d(l, l + n), of states l and l + n; 0 ≤ l < L, 1 ≤ n ≤ L − l.
using AngularDistances = std::vector<std::vector<double>>;
AngularDistances no_distances(int64_t layers);

// Means over tokens, in double, in the order in which the tokens come.
class StreamStatistics {
 public:
  explicit StreamStatistics(int64_t layers);

  // One token: its L + 1 states, each of the model's width. Returns their L2 norms.
  std::vector<double> add(const std::vector<std::span<const double>>& states);

  int64_t tokens() const { return tokens_; }
  // L + 1: of x_0, then of the output of each layer.
  std::vector<double> variances() const;
  AngularDistances distances() const;

 private:
  int64_t tokens_ = 0;
  std::vector<double> variance_sums_;
  AngularDistances distance_sums_;
};

// The figure that the reference draws (lmsdss/LayerNorm-Scaling, utils/angular_analysis.py and
// short_hf.py): of the last position of each sequence alone, filling or not, and relative, so that
// its numbers are no angles. Row n − 1 (1 ≤ n < L) has a cell for each layer l of L: d(l, l + n)
// where l + n < L; where l + n = L the distance to the stream *after* the final norm, and 0 beyond.
// Each row is clipped to its 1st and 99th percentile and scaled to [0, 1] (0 where all are equal);
// only cells with l + n < L are drawn, and only those are returned: rows[n − 1][l], l < L − n.
class ReferenceDistances {
 public:
  explicit ReferenceDistances(int64_t layers);

  // Of a last position: its L + 1 states, and what the final norm makes of the last one.
  void add(const std::vector<std::span<const double>>& states, std::span<const double> final);

  std::vector<std::vector<double>> rows() const;

 private:
  int64_t layers_;
  int64_t sequences_ = 0;
  std::vector<std::vector<double>> sums_;  // (L − 1, L)
};

}  // namespace normlab
