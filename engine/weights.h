// A model's weights in files, under Hugging Face's names.
#pragma once

#include <string>

#include "engine/hugging_face.h"
#include "engine/safetensors.h"
#include "models/model.h"

namespace normlab {

// Reads a directory's weights (SafetensorsSet) into the model, whose configuration is that of
// DIR/config.json; in parts of a megabyte, so that it takes hardly any memory beside the model's.
// Names with or without their common prefix ("transformer.", "model."). GPT-2's buffers
// ("attn.bias", "attn.masked_bias"), LLaMA's ("rotary_emb.inv_freq") and a tied head that equals
// the embedding are ignored. A missing, misshapen or unknown tensor, or a tied head that differs,
// is an input Error that names it. Where there are masters, an arena like Model::values(), they
// take the file's numbers and the values are rounded from them. Of an LN-free directory
// (ModelForm::ln_free) the gains come in as they were before they were written so, to one rounding.
void load_weights(Model& model, const std::string& directory, Tensor masters = {});
// Writes model.safetensors, by default in fp32 whatever the model works in: the masters where there
// are some, else the values. Returns the file's hash. Throws an input Error for a number beyond
// the range of `type`.
uint64_t write_weights(const Model& model, const std::string& path, Tensor masters = {},
                       StoredType type = StoredType::f32);

// Numbers of a device tensor as float, and back, rounded to its type.
std::vector<float> download_floats(Ops& ops, ConstTensor tensor);
void upload_floats(Ops& ops, Tensor tensor, const std::vector<float>& values);

}  // namespace normlab
