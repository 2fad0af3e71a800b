// Depth: what each layer of a model adds ("The Curse of Depth in Large Language Models",
// arXiv 2502.05795).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "data/token_stream.h"
#include "engine/analysis/jacobian.h"
#include "engine/analysis/stream_statistics.h"
#include "models/model.h"

namespace normlab {

struct DepthOptions {
  int64_t tokens_per_sequence = 256;
  int64_t batch = 1;        // sequences of a pass; at most the model's micro-batch
  int64_t most_tokens = 0;  // looked at at least, to the end of a batch; 0 = all
  RowPacking packing = RowPacking::concatenated;
  bool mask_eot_targets = false;
  JacobianOptions jacobian;
  int64_t jacobian_tokens = 0;  // the same for the Jacobian, from the beginning; 0 = all
  // Told of the share that is done, in [0, 1].
  std::function<void(double)> progress;
};

// Tokens are those that are no filling. Layers count from 0.
struct DepthResult {
  int64_t sequences = 0;
  int64_t tokens = 0;
  int64_t targets = 0;  // that were scored
  // v: mean over tokens of the population variance over the hidden dimension; of the input of layer
  // 0, then of the output of each layer.
  std::vector<double> variances;
  AngularDistances distances;
  std::vector<std::vector<double>> reference_distances;  // ReferenceDistances
  double loss = 0;                                       // mean, nats per target
  // The same without layer l. Left out is all that layer l does to the stream, its branches and
  // what stands behind them (a norm of post or sandwich placements, a skip's scale): layer l + 1
  // reads what layer l read, through its own norm. All other layers keep their place, and with it
  // the scale of LayerNorm Scaling.
  std::vector<double> loss_without;
  std::vector<JacobianDistance> jacobian;  // by layer; empty where none was asked for
  int64_t jacobian_tokens = 0;
};

// In the corpus's order, from its beginning; dropout off. One pass gives all states of the stream;
// what follows a layer that is left out is computed from the state before it.
DepthResult measure_depth(Model& model, const TokenCorpus& corpus, const DepthOptions& options);

}  // namespace normlab
