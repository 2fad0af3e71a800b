// The JSON header of a safetensors file, apart from the file.
#pragma once

#include "engine/safetensors.h"

namespace normlab {

struct SafetensorsHeader {
  int64_t data_begin = 0;  // bytes from the start of the file
  std::map<std::string, StoredTensor> tensors;
  std::map<std::string, std::string> metadata;
};

// Bytes of an element; 0 for `other`.
int64_t size_of(StoredType type);
// Checks everything (see SafetensorsFile); `path` is for messages, `file` the whole file.
SafetensorsHeader parse_safetensors_header(const std::string& path,
                                           std::span<const std::byte> file);
// The JSON of a file with these tensors in this order, padded with spaces to a multiple of 8 bytes.
std::string safetensors_header(const std::vector<TensorToWrite>& tensors,
                               const std::map<std::string, std::string>& metadata);

}  // namespace normlab
