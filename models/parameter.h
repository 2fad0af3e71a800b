// Parameter: one trainable tensor, in the one list that init, load, save, reduce and optimise walk.
#pragma once

#include <string>
#include <vector>

#include "kernels/tensor.h"
#include "models/config.h"

namespace normlab {

enum class InitRule { normal, constant };

struct Parameter {
  std::string name;     // "layers.3.attention.qkv.weight"
  Tensor value;         // in the working type
  Tensor gradient;      // in the type of gradients; empty in a model for inference
  bool decays = false;  // matrices and embeddings; biases and norms never
  int64_t layer = -1;   // −1: embedding, final norm, head
  InitRule rule = InitRule::constant;
  double start = 0;  // of InitRule::constant
  double std = 0;    // of InitRule::normal,
  // and that of the rows from last_rows on: a packed matrix's values may have another.
  int64_t last_rows = 0;
  double last_std = 0;
  int bucket = 0;
  // Place in the flat arenas of values, gradients and moments, in elements (with padding).
  int64_t arena_offset = 0;
  // Place in the concatenation of all parameters in list order, without padding: what a checkpoint
  // addresses.
  int64_t logical_offset = 0;

  // The parameter's part of a flat arena (1,n), in its shape.
  Tensor part_of(Tensor arena) const {
    return arena.column_slice(arena_offset, value.elements()).reshaped(value.shape);
  }
};

// A run of the flat arenas whose gradients are complete at the same moment of a backward pass.
// Buckets come in that order: head, layer L−1 … layer 0, embeddings. Within one, first what decays,
// then what does not: [begin, decay_end) and [decay_end, end), in elements.
struct Bucket {
  int64_t begin = 0;
  int64_t decay_end = 0;
  int64_t end = 0;
  bool embeddings = false;  // the last one: whether it decays is the optimizer's setting
};

// Every run of a bucket begins at a multiple of so many elements; the gaps hold zeros.
constexpr int64_t kBucketAlignment = 64;

// The list for a configuration: names, shapes (values without data), rules and offsets; in the
// order of the forward pass. Pure.
std::vector<Parameter> parameter_list(const ModelConfig& config);
// The buckets of a list; assigns arena offsets and bucket numbers.
std::vector<Bucket> assign_buckets(std::vector<Parameter>& parameters, int64_t layers);
// Index of a parameter by name; throws Error where there is none.
int find_parameter(const std::vector<Parameter>& parameters, const std::string& name);
// The same, −1 where there is none.
int find_parameter_or_none(const std::vector<Parameter>& parameters, const std::string& name);

// A tensor of a Hugging Face model file and the part of a parameter that holds it.
struct NamedSlice {
  std::string name;   // "transformer.h.0.attn.c_attn.weight"
  int parameter = 0;  // index into the list
  // Rows [first, first + count) of a matrix, elements of a vector.
  int64_t first = 0;
  int64_t count = 0;
  Shape shape;              // as in the file
  bool transposed = false;  // the file has [in, out] (GPT-2's Conv1D)

  // The slice of the parameter's value, of its gradient, or of its master.
  template <typename View>
  View of(View whole) const {
    return shape.rank == 1 ? whole.column_slice(first, count) : whole.row_slice(first, count);
  }
};

// How Hugging Face's files name the parameters of a configuration, in the order of its own files.
std::vector<NamedSlice> gpt2_names(const ModelConfig& config);
std::vector<NamedSlice> llama_names(const ModelConfig& config);

}  // namespace normlab
