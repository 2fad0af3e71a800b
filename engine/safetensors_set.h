// The weights of a model directory: one safetensors file, or several with an index.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/safetensors.h"

namespace normlab {

// DIR/model.safetensors, or where that is not there the files ("shards") that
// DIR/model.safetensors.index.json names: {"weight_map": {tensor: file}}. The constructor checks
// each file's header, and that every tensor lies in the file that the index names, and in no other;
// an input Error says which does not, and what is missing.
class SafetensorsSet {
 public:
  explicit SafetensorsSet(const std::string& directory);

  // Of the file or of the index, for messages.
  const std::string& path() const { return path_; }
  bool contains(const std::string& name) const { return places_.contains(name); }
  // The file that holds a tensor; throws an Error where none does.
  const SafetensorsFile& file_of(const std::string& name) const;
  const StoredTensor& tensor(const std::string& name) const {
    return file_of(name).tensors().at(name);
  }
  std::vector<std::string> names() const;

 private:
  void open_shards(const std::string& directory);

  std::string path_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile*> places_;  // by tensor
};

}  // namespace normlab
