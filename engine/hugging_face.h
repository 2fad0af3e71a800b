// config.json of a Hugging Face model directory, in and out.
#pragma once

#include <map>
#include <string>

#include "engine/config.h"
#include "engine/norm_states.h"
#include "models/parameter.h"

namespace normlab {

// How a directory gives a model to other programs.
enum class ModelForm {
  own,        // weights and norms as they are: a type of transformers' where one computes it
  ln_free,    // such a type; every norm is frozen, its gain times s/σ and its epsilon s²
  modelling,  // computed by the modelling file that lies beside
};

// A configuration and what else config.json says of a model of ours.
struct ModelDescription {
  ModelConfig config;
  std::string tokenizer =
      "";  // as make_tokenizer() takes it; "." in it is the directory; "": unknown
  // Of the run, so that an evaluation can repeat its bits; 0: unknown.
  int64_t micro_batch = 0;
  int64_t sequence_length = 0;
  Packing packing = Packing::concatenated;
  bool mask_eot_targets = false;
  PrecisionChoice precision = PrecisionChoice::automatic;  // `automatic`: unknown
  // Ids of the tokens that begin and end a text; −1: none, or unknown.
  int64_t begin_of_text = -1;
  int64_t end_of_text = -1;
  bool mistral = false;          // a llama whose file says "mistral", which computes the same
  std::string type = "float32";  // of the weights beside: float32, bfloat16 or float16; not read
  std::vector<NormRecord> norms = {};  // those that are not live
  ModelForm form = ModelForm::own;
  double ln_free_scale = 0;  // s of ModelForm::ln_free
  // What is to be written beside config.json, by file name: the tokenizer's files. Not read.
  std::map<std::string, std::string> files = {};
  std::vector<std::string> warnings = {};  // what who trains on should know; not written
};

// Reads DIR/config.json of type gpt2, llama, mistral or qwen2, or of ours. Throws an input Error
// that names the file, the key and the fact; a feature that we do not compute (rope scaling, a
// sliding window shorter than the context, another activation …) is an error, never ignored. A
// model whose norms have an epsilon of 1e6 or more is LN-free in all but name (ModelForm::ln_free):
// its norms come in frozen, their σ as the file says, or 1.
ModelDescription read_config_json(const std::string& directory);
// Text of a config.json that transformers loads: model_type gpt2, llama, mistral or qwen2 with a
// "normlab" section beside; or, for the modelling file, normlab_gpt2 or normlab_llama. What none of
// them expresses has model_type "normlab", so that nothing loads it as what it is not.
std::string config_json(const ModelDescription& description);
// Why none of transformers' types computes this model, its norms live; "" where one does.
std::string beyond_plain(const ModelConfig& config);

// The modelling file of a family, without ".py".
std::string modelling_file(Family family);

// How the files of a configuration name its tensors.
std::vector<NamedSlice> file_names(const ModelConfig& config);

}  // namespace normlab
