// How far the Jacobian of each layer is from the identity, by random projections.
//
// A layer maps the residual streams x_s of a sequence to streams y_t; J_ts = ∂y_t/∂x_s (C,C), 0 for
// s > t. For a random unit vector u, the same for all tokens, and a random sign σ_t for each, all
// streams move at once by ±h·σ_t·u, and central differences give
//   w_t = (y_t(+h) − y_t(−h)) / 2h = Σ_s J_ts·u·σ_s     to O(h²).
// Two distances follow, both exact in expectation over u and σ, with N the tokens that are no
// filling and I the identity, and both 0 for a layer that passes its input on:
//   token_mean  |J̄ − I|_F/√C with J̄ = (1/N) Σ_t J_tt, the token-averaged dy/dx of the paper's fig.
//               5: root mean square over u of |J̄·u − u|, J̄·u ≈ (1/N) Σ_t σ_t·w_t. What other
//               tokens contribute averages out, its square being overestimated by at most
//               whole²/N.
//   whole       |J − I|_F/√(N·C) of the map of whole sequences, what attention moves from token to
//               token included: root mean square over u and t of |w_t − σ_t·u|.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/evaluation.h"
#include "models/model.h"

namespace normlab {

struct JacobianOptions {
  int64_t projections = 4;  // random vectors u of each layer; 0 = no measurement
  uint64_t seed = 1;
};

struct JacobianDistance {
  double token_mean = 0;
  double whole = 0;
};

// A uniformly random unit vector (width); and 1 or −1. Functions of their arguments.
std::vector<double> random_direction(uint64_t seed, int64_t layer, int64_t projection,
                                     int64_t width);
double random_sign(uint64_t seed, int64_t projection, int64_t sequence, int64_t token);

// Length of a step over the median length of the streams, one for all tokens of a batch: the cube
// root of the type's rounding, where truncation and rounding of a central difference are alike.
// Throws an input Error for a type that is too coarse.
double relative_step(DType working_type);

class JacobianMeasurement {
 public:
  // The model must outlive it; rows of the largest batch.
  JacobianMeasurement(Model& model, const JacobianOptions& options, int64_t rows);

  // The tokens of a batch, whose first sequence is number first_sequence of all. x (N,C): the
  // streams before the layer, of lengths `norms` (N).
  void add(int64_t layer, ConstTensor x, const std::vector<double>& norms, const Batch& batch,
           const HostBatch& host, int64_t first_sequence);

  // By layer.
  std::vector<JacobianDistance> result() const;

 private:
  struct Projection {
    int64_t tokens = 0;
    std::vector<double> mean;  // (C) Σ σ_t·w_t
    double squares = 0;        // Σ |w_t − σ_t·u|²
  };
  // The layer's output (N,C) from x + step (N,C).
  std::vector<double> output(int64_t layer, ConstTensor x, const std::vector<double>& step,
                             const Batch& batch);

  Model& model_;
  JacobianOptions options_;
  Memory memory_;
  Tensor step_, moved_;
  std::vector<std::vector<Projection>> sums_;  // by layer, then by projection
};

}  // namespace normlab
