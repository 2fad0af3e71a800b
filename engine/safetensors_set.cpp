#include "engine/safetensors_set.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "data/json_text.h"
#include "engine/files.h"
#include "kernels/error.h"

namespace normlab {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kSingle = "/model.safetensors";
constexpr const char* kIndex = "/model.safetensors.index.json";
constexpr const char* kRemedy = "). Copy the model anew";

// The file of each tensor, as the index says.
std::map<std::string, std::string> read_index(const std::string& path) {
  const std::string text = read_file(path);
  json index;
  try {
    index = parse_json_text<json>(text);
  } catch (const json::exception&) {
    throw input_error(path + ": no index of weights (it is not JSON" + kRemedy);
  } catch (const Error& error) {
    throw error.at(path);
  }
  const json map = index.is_object() ? index.value("weight_map", json()) : json();
  if (!map.is_object() || map.empty()) {
    throw input_error(path + ": no index of weights (it has no weight_map {tensor: file}" +
                      kRemedy);
  }
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : map.items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    if (name.empty() || name.find_first_of(std::string("/\0", 2)) != std::string::npos) {
      throw input_error(path + ": tensor " + tensor + " lies in " + file.dump() +
                        " (not the name of a file beside the index" + kRemedy);
    }
    files[tensor] = name;
  }
  return files;
}

Error no_weights(const std::string& directory) {
  std::error_code ignored;
  if (fs::exists(directory + "/pytorch_model.bin", ignored) ||
      fs::exists(directory + "/pytorch_model.bin.index.json", ignored)) {
    return input_error(directory +
                       ": has weights in PyTorch's format only (pytorch_model.bin). Convert them "
                       "with transformers: model.save_pretrained(DIR)");
  }
  return input_error(directory +
                     ": has no weights (neither model.safetensors nor "
                     "model.safetensors.index.json). Check the path, or copy them there");
}

}  // namespace

SafetensorsSet::SafetensorsSet(const std::string& directory) {
  std::error_code ignored;
  // Where there are both, transformers too takes the single file.
  if (fs::exists(directory + kSingle, ignored)) {
    path_ = directory + kSingle;
    files_.push_back(std::make_unique<SafetensorsFile>(path_));
    for (const auto& [name, tensor] : files_.front()->tensors()) {
      places_[name] = files_.front().get();
    }
    return;
  }
  if (!fs::exists(directory + kIndex, ignored)) throw no_weights(directory);
  path_ = directory + kIndex;
  open_shards(directory);
}

void SafetensorsSet::open_shards(const std::string& directory) {
  const std::map<std::string, std::string> index = read_index(path_);
  std::map<std::string, const SafetensorsFile*> shards;
  for (const auto& [tensor, name] : index) {
    if (shards.contains(name)) continue;
    const std::string path = directory + "/" + name;
    std::error_code ignored;
    if (!fs::exists(path, ignored)) {
      throw input_error(path_ + ": the file " + name + " is missing (tensor " + tensor +
                        " should be in it" + kRemedy);
    }
    files_.push_back(std::make_unique<SafetensorsFile>(path));
    shards[name] = files_.back().get();
  }
  for (const auto& [name, shard] : shards) {
    for (const auto& [tensor, stored] : shard->tensors()) {
      const auto place = index.find(tensor);
      if (place == index.end() || place->second != name) {
        throw input_error(path_ + ": tensor " + tensor + " lies in " + name + " (the index " +
                          (place == index.end() ? "does not name it" : "says " + place->second) +
                          kRemedy);
      }
      places_[tensor] = shard;
    }
  }
  for (const auto& [tensor, name] : index) {
    if (places_.contains(tensor)) continue;
    throw input_error(path_ + ": tensor " + tensor + " is not in " + name +
                      " (as the index says it is" + kRemedy);
  }
}

const SafetensorsFile& SafetensorsSet::file_of(const std::string& name) const {
  const auto place = places_.find(name);
  check(place != places_.end(), ("a tensor named " + name).c_str());
  return *place->second;
}

std::vector<std::string> SafetensorsSet::names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : places_) names.push_back(name);
  return names;
}

}  // namespace normlab
