// A model's weights in files, under Hugging Face's names.
#pragma once

#include <string>

#include "engine/hugging_face.h"
#include "models/model.h"

namespace normlab {

// Reads DIR/model.safetensors into the model, whose configuration is that of DIR/config.json.
// Names with or without their common prefix ("transformer.", "model."); GPT-2's buffers
// ("attn.bias", "attn.masked_bias") are ignored. A missing, misshapen or unknown tensor is an input
// Error that names it.
void load_weights(Model& model, const std::string& directory);
// Writes model.safetensors (fp32); returns the file's hash.
uint64_t write_weights(const Model& model, const std::string& path);

// Numbers of a device tensor as float, and back.
std::vector<float> download_floats(Ops& ops, ConstTensor tensor);
void upload_floats(Ops& ops, Tensor tensor, const std::vector<float>& values);

}  // namespace normlab
