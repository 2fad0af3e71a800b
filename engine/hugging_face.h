// config.json of a Hugging Face model directory, in and out.
#pragma once

#include <string>

#include "engine/config.h"
#include "models/parameter.h"

namespace normlab {

// A configuration and what else config.json says of a model of ours.
struct ModelDescription {
  ModelConfig config;
  std::string tokenizer;  // data.tokenizer of the run; "" where unknown
  // Of the run, so that an evaluation can repeat its bits; 0: unknown.
  int64_t micro_batch = 0;
  int64_t sequence_length = 0;
  Packing packing = Packing::concatenated;
  bool mask_eot_targets = false;
  PrecisionChoice precision = PrecisionChoice::automatic;  // `automatic`: unknown
};

// The tokenizer `given` to a program, or where it is "" the model's own. Throws an input Error
// where that is unknown; `directory`: the model's.
std::string tokenizer_for(const ModelDescription& description, const std::string& given,
                          const std::string& directory);

// Reads DIR/config.json of type gpt2 or llama, or of ours. Throws an input Error that names the
// file, the key and the fact; a feature that we do not compute (rope scaling, attention biases,
// another activation …) is an error, never ignored.
ModelDescription read_config_json(const std::string& directory);
// Text of a config.json that transformers loads: model_type gpt2 or llama with a "normlab" section
// beside. Norms of a kind or in a place that those cannot express have model_type "normlab", so
// that nothing loads it as what it is not.
std::string config_json(const ModelDescription& description);

// How the files of a configuration name its tensors.
std::vector<NamedSlice> file_names(const ModelConfig& config);

}  // namespace normlab
