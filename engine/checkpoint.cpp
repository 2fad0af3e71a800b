#include "engine/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "engine/config_names.h"
#include "engine/files.h"
#include "engine/hash.h"
#include "engine/safetensors.h"
#include "engine/version.h"
#include "engine/weights.h"

namespace normlab {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr int kSchema = 1;
constexpr const char* kPrefix = "step-";
constexpr const char* kPartial = ".partial-";

struct Listed {
  int64_t step;
  std::string name;
};

// The newest first.
std::vector<Listed> list(const std::string& directory) {
  std::vector<Listed> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    const std::string digits = name.substr(std::strlen(kPrefix));
    if (digits.empty() || digits.size() > 18 ||
        digits.find_first_not_of("0123456789") != std::string::npos) {
      continue;
    }
    found.push_back({std::stoll(digits), name});
  }
  std::sort(found.begin(), found.end(),
            [](const Listed& a, const Listed& b) { return a.step > b.step; });
  return found;
}

// The numbers of a flat arena without its padding, in the order of the parameter list.
std::vector<float> logical(const Model& model, Tensor arena) {
  std::vector<float> numbers;
  for (const Parameter& parameter : model.parameters()) {
    const std::vector<float> part = download_floats(
        model.ops(), arena.column_slice(parameter.arena_offset, parameter.value.elements()));
    numbers.insert(numbers.end(), part.begin(), part.end());
  }
  return numbers;
}

void restore_logical(const Model& model, Tensor arena, const SafetensorsFile& file,
                     const std::string& name) {
  const std::vector<float> numbers = file.read(name);
  const Parameter& last = model.parameters().back();
  if (static_cast<int64_t>(numbers.size()) != last.logical_offset + last.value.elements()) {
    throw input_error(file.path() + ": " + name +
                      " does not belong to this model (another number of parameters)");
  }
  for (const Parameter& parameter : model.parameters()) {
    const auto begin = numbers.begin() + parameter.logical_offset;
    upload_floats(model.ops(),
                  arena.column_slice(parameter.arena_offset, parameter.value.elements()),
                  {begin, begin + parameter.value.elements()});
  }
}

uint64_t write_moments(const Model& model, const Optimizer& optimizer, const std::string& path) {
  std::vector<TensorToWrite> tensors;
  const auto add = [&](const char* name, Tensor arena) {
    const Parameter& last = model.parameters().back();
    TensorToWrite tensor;
    tensor.name = name;
    tensor.shape = {last.logical_offset + last.value.elements()};
    tensor.fill = [&model, arena](std::span<std::byte> bytes) {
      const std::vector<float> numbers = logical(model, arena);
      std::memcpy(bytes.data(), numbers.data(), bytes.size());
    };
    tensors.push_back(std::move(tensor));
  };
  add("first_moment", optimizer.first_moment());
  add("second_moment", optimizer.second_moment());
  return write_safetensors(path, tensors);
}

// state.json's own checksum: of all that it says beside.
std::string own_checksum(ordered_json state) {
  state["checksums"].erase("state.json");
  return hexadecimal(hash_text(state.dump()));
}

ordered_json state_json(const TrainingState& state, const ordered_json& checksums) {
  ordered_json out = {{"schema", kSchema},
                      {"step", state.step},
                      {"data_position", state.data_position},
                      {"skipped_in_row", state.skipped_in_row},
                      {"corpus_hash", hexadecimal(state.corpus_hash)},
                      {"configuration_hash", state.configuration_hash},
                      {"code", code_version()},
                      {"checksums", checksums}};
  out["checksums"]["state.json"] = own_checksum(out);
  return out;
}

}  // namespace

std::string checkpoint_name(int64_t step) {
  char text[32];
  std::snprintf(text, sizeof(text), "step-%08lld", static_cast<long long>(step));
  return text;
}

TrainingState verify_checkpoint(const std::string& directory) {
  const std::string path = directory + "/state.json";
  TrainingState state;
  std::map<std::string, std::string> checksums;
  try {
    const ordered_json json = ordered_json::parse(read_file(path));
    if (json.at("schema").get<int>() != kSchema) {
      throw input_error(path + ": schema " + json.at("schema").dump() +
                        " (this version reads schema " + std::to_string(kSchema) + ")");
    }
    state.step = json.at("step").get<int64_t>();
    state.data_position = json.at("data_position").get<int64_t>();
    state.skipped_in_row = json.at("skipped_in_row").get<int64_t>();
    state.corpus_hash = std::stoull(json.at("corpus_hash").get<std::string>(), nullptr, 16);
    state.configuration_hash = json.at("configuration_hash").get<std::string>();
    checksums = json.at("checksums").get<std::map<std::string, std::string>>();
    if (checksums["state.json"] != own_checksum(json)) {
      throw input_error(path + ": differs from its own checksum");
    }
  } catch (const ordered_json::exception& error) {
    throw input_error(path + ": " + error.what());
  } catch (const std::logic_error& error) {
    throw input_error(path + ": corpus_hash is not a hash");
  }
  for (const char* name : {"model.safetensors", "optimizer-00000.safetensors", "config.json"}) {
    if (!fs::exists(directory + "/" + name)) {
      throw input_error(directory + "/" + name + ": is missing");
    }
    if (hexadecimal(hash_file(directory + "/" + name)) != checksums[name]) {
      throw input_error(directory + "/" + name + ": differs from its checksum in state.json");
    }
  }
  return state;
}

namespace {

// The newest checkpoint under `directory` that verify_checkpoint lets pass.
std::optional<CheckpointDirectory::Found> newest_intact(const std::string& directory,
                                                        std::vector<std::string>& warnings) {
  for (const Listed& listed : list(directory)) {
    const std::string path = directory + "/" + listed.name;
    try {
      return CheckpointDirectory::Found{path, verify_checkpoint(path)};
    } catch (const Error& error) {
      warnings.push_back("checkpoint " + path + " is damaged and passed over (" + error.what() +
                         ")");
    }
  }
  return std::nullopt;
}

}  // namespace

CheckpointDirectory::CheckpointDirectory(const std::string& run_directory)
    : path_(run_directory + "/checkpoints") {
  require_writable_directory(path_);
  for (const auto& entry : fs::directory_iterator(path_)) {
    if (entry.path().filename().string().starts_with(kPartial)) fs::remove_all(entry.path());
  }
}

void CheckpointDirectory::save(const Model& model, const Optimizer& optimizer,
                               const TrainingState& state, const ModelDescription& description,
                               int64_t keep) {
  const std::string name = checkpoint_name(state.step);
  const std::string target = path_ + "/" + name;
  const std::string partial = path_ + "/" + kPartial + name;
  fs::remove_all(partial);
  fs::create_directory(partial);
  ordered_json checksums;
  checksums["model.safetensors"] =
      hexadecimal(write_weights(model, partial + "/model.safetensors"));
  checksums["optimizer-00000.safetensors"] =
      hexadecimal(write_moments(model, optimizer, partial + "/optimizer-00000.safetensors"));
  write_file_synced(partial + "/config.json", config_json(description));
  checksums["config.json"] = hexadecimal(hash_file(partial + "/config.json"));
  write_file_synced(partial + "/state.json", state_json(state, checksums).dump(2) + "\n");
  sync_directory(partial);
  // A checkpoint of the same step can only be a damaged one that was passed over.
  if (fs::exists(target)) fs::remove_all(target);
  fs::rename(partial, target);
  sync_directory(path_);
  int64_t kept = 0;
  for (const Listed& listed : list(path_)) {
    // Newer ones are damaged and were passed over: they do not count.
    if (listed.step > state.step || kept++ < std::max<int64_t>(keep, 1)) continue;
    // Renamed first, so that a half-removed directory is never taken for a checkpoint.
    const std::string doomed = path_ + "/" + kPartial + listed.name;
    fs::rename(path_ + "/" + listed.name, doomed);
    fs::remove_all(doomed);
  }
}

std::optional<CheckpointDirectory::Found> CheckpointDirectory::newest_good(
    std::vector<std::string>& warnings) const {
  const auto found = newest_intact(path_, warnings);
  if (found || warnings.empty()) return found;
  throw input_error(path_ + ": no checkpoint is intact (" + warnings.back() +
                    "). Restore one, or start anew in another run.directory");
}

void CheckpointDirectory::load(const Found& found, Model& model, Optimizer& optimizer) {
  load_weights(model, found.path);
  const SafetensorsFile file(found.path + "/optimizer-00000.safetensors");
  restore_logical(model, optimizer.first_moment(), file, "first_moment");
  restore_logical(model, optimizer.second_moment(), file, "second_moment");
}

std::string model_directory(const std::string& path, std::vector<std::string>& warnings) {
  if (fs::exists(path + "/config.json")) return path;
  if (fs::is_directory(path + "/checkpoints")) {
    const auto found = newest_intact(path + "/checkpoints", warnings);
    if (found) return found->path;
    throw input_error(path +
                      ": has no intact checkpoint. Let the run reach its first one "
                      "(checkpoint.every)");
  }
  throw input_error(path +
                    ": is neither a run directory nor a checkpoint nor a Hugging Face model "
                    "directory (no config.json in it). Check the path");
}

std::string adopt_model(Config& config, std::vector<std::string>& warnings) {
  const std::string directory = model_directory(*config.model_from, warnings);
  const double dropout = config.model.dropout;
  config.model = read_config_json(directory).config;
  config.model.dropout = dropout;
  if (config.model_from_family && *config.model_from_family != config.model.family) {
    throw input_error(
        "model.family = " + std::string(name_of(*config.model_from_family, family_names)) + " (" +
        directory + " holds a " + name_of(config.model.family, family_names) + "). Leave it out");
  }
  if (config.data.sequence_length > config.model.context) {
    throw input_error("data.sequence_length = " + std::to_string(config.data.sequence_length) +
                      " (the context of " + directory + " is " +
                      std::to_string(config.model.context) + "). Make it shorter");
  }
  return directory;
}

}  // namespace normlab
