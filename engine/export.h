// Models out: directories that other programs load.
#pragma once

#include <string>
#include <vector>

#include "engine/safetensors.h"

namespace normlab {

struct ExportOptions {
  std::string out;                    // must not exist, or be empty
  StoredType type = StoredType::f32;  // of the weights: f32, bf16 or f16
  std::string tokenizer;  // as make_tokenizer() takes it; "": the model's own, where it is known
};

// Writes the model of `directory` (a checkpoint or a Hugging Face directory) to `out` as
// transformers loads it: one model.safetensors of any size, config.json of model_type gpt2, llama,
// mistral or qwen2, the tokenizer's files. `out` appears when it is complete. `warnings`: what
// could not be taken along. Throws an input Error where those types cannot express the model, where
// `out` is in use, or where a weight is beyond the range of `type`.
void export_hugging_face(const std::string& directory, const ExportOptions& options,
                         std::vector<std::string>& warnings);

}  // namespace normlab
