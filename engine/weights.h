// A model's weights in files, under Hugging Face's names.
#pragma once

#include <string>

#include "engine/hugging_face.h"
#include "models/model.h"

namespace normlab {

// Reads DIR/model.safetensors into the model, whose configuration is that of DIR/config.json.
// Names with or without their common prefix ("transformer.", "model."); GPT-2's buffers
// ("attn.bias", "attn.masked_bias") are ignored. A missing, misshapen or unknown tensor is an input
// Error that names it. Where there are masters, an arena like Model::values(), they take the file's
// numbers and the values are rounded from them.
void load_weights(Model& model, const std::string& directory, Tensor masters = {});
// Writes model.safetensors, in fp32 whatever the model works in: the masters where there are some,
// else the values. Returns the file's hash.
uint64_t write_weights(const Model& model, const std::string& path, Tensor masters = {});

// Numbers of a device tensor as float, and back, rounded to its type.
std::vector<float> download_floats(Ops& ops, ConstTensor tensor);
void upload_floats(Ops& ops, Tensor tensor, const std::vector<float>& values);

}  // namespace normlab
