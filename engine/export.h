// Models out: directories that other programs load.
#pragma once

#include <string>
#include <vector>

#include "engine/safetensors.h"

namespace normlab {

enum class ExportFormat {
  hf,          // a plain gpt2, llama, mistral or qwen2, its norms live
  hf_ln_free,  // the same with frozen norms: ModelForm::ln_free
  folded,      // no norm at all; or, where some are left, each in its state: ModelForm::modelling
};

struct ExportOptions {
  std::string out;  // must not exist, or be empty
  ExportFormat format = ExportFormat::hf;
  StoredType type = StoredType::f32;  // of the weights: f32, bf16 or f16
  double scale = 1048576;             // s of hf_ln_free
  std::string tokenizer;  // as make_tokenizer() takes it; "": the model's own, where it is known
};

// Writes the model of `directory` (a checkpoint or a Hugging Face directory) to `out` as
// transformers loads it: one model.safetensors of any size, config.json, the tokenizer's files, and
// what exported_files() adds. Reads it back and compares logits of some tokens with the model's;
// `out` appears when they agree. Returns the largest difference by the largest logit. `warnings`:
// what could not be taken along. Throws an input Error where the format cannot express the model,
// where `out` is in use, or where a weight is beyond the range of `type`.
double export_model(const std::string& directory, const ExportOptions& options,
                    std::vector<std::string>& warnings);

}  // namespace normlab
