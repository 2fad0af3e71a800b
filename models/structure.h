// ModelStructure: what a model consists of, and where its tensors lie; no device, no data.
#pragma once

#include <vector>

#include "models/attention.h"
#include "models/joint.h"
#include "models/mlp.h"

namespace normlab {

enum class Purpose { training, inference };

// Whether the norms of queries and keys and those of values ever differ: then there is room for the
// input of either.
enum class AttentionNorms { together, apart };

// What backward computes again instead of keeping it since forward; the bits are the same. (What a
// probe has written into it since is not.)
enum class Recompute {
  none,
  mlp,    // what is within the MLPs, from their inputs
  block,  // all of a layer, from the residual stream and the norm before it
};

struct Workload {
  int64_t micro_batch = 1;
  int64_t tokens = 1;  // of a sequence
  Purpose purpose = Purpose::inference;
  AttentionNorms attention_norms = AttentionNorms::together;
  Recompute recompute = Recompute::none;
  int64_t rows() const { return micro_batch * tokens; }
};

struct ModelStructure {
  // Room that one pass needs and none keeps.
  struct Temporaries {
    Tensor branch;    // (N,C)
    Tensor d_stream;  // (N,C) gradient of the residual stream
    Tensor d_normed;  // (N,C) of a sublayer's input
    // (N,C) the same of attention's values, where their norm differs from that of queries and keys
    Tensor normed_values, d_normed_values;
    Tensor d_branch;  // (N,C) of a branch under dropout, or one that a joint changes
    AttentionGradients attention;
    MlpGradients mlp;
    Tensor logits;  // (rows of a chunk, V); then their gradient
    Tensor losses;  // (N,1) in statistics_type()
  };

  std::vector<Parameter> parameters;
  std::vector<Bucket> buckets;
  std::vector<NormSite> sites;
  std::vector<Joint> joints;              // 2·layers + 1
  std::vector<AttentionLayer> attention;  // layers
  std::vector<MlpLayer> mlp;
  Temporaries temporaries;
  Tensor std_sums;  // (sites, 2) f64: NormStdSums of the tokens seen, by site
  int token_embedding = -1;
  int position_embedding = -1;  // −1: rotary
  int head = -1;                // the token embedding where they are tied
  int head_bias = -1;           // −1: none

  int64_t arena_elements() const { return buckets.back().end; }
};

// Parameters, norms and layers of a configuration. Pure.
ModelStructure make_structure(const ModelConfig& config);
// Activations, temporaries and the norms' states; the same calls measure and take.
void lay_out_activations(ModelStructure& structure, Arena& arena, const ModelConfig& config,
                         const Workload& workload, DType working_type, DType statistics_type);
// Views of the parameters into flat arenas (1, arena_elements()); `gradients` may be empty.
void place_parameters(ModelStructure& structure, Tensor values, Tensor gradients);

// What numbers are stored as, as kernels/ops.h says.
struct NumberTypes {
  DType working = DType::f32;
  DType gradient = DType::f32;
  DType statistics = DType::f32;
  bool has_masters = false;
};
NumberTypes number_types(const Ops& ops);
// The same of every device that works in a precision; needs none.
NumberTypes number_types(Precision precision);

// Bytes by use, as train --dry-run prints them.
struct ModelMemory {
  int64_t weights_bytes = 0;
  int64_t gradients_bytes = 0;
  int64_t activations_bytes = 0;
};

// What a Model allocates, without allocating it; needs no device.
ModelMemory measure_model(const ModelConfig& config, const Workload& workload,
                          const NumberTypes& types);

}  // namespace normlab
