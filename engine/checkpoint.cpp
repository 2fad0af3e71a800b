#include "engine/checkpoint.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>

#include "engine/config_names.h"
#include "engine/files.h"
#include "engine/hash.h"
#include "engine/model_files.h"
#include "engine/safetensors.h"
#include "engine/weights.h"

namespace normlab {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "step-";
constexpr const char* kPartial = ".partial-";
// What was passed over as damaged, until the new one of its step is in place.
constexpr const char* kReplaced = ".replaced-";

struct Listed {
  int64_t step;
  std::string name;
};

// The newest first.
std::vector<Listed> list(const std::string& directory) {
  std::vector<Listed> found;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    const std::string digits = name.substr(std::strlen(kPrefix));
    if (digits.empty() || digits.size() > 18 ||
        digits.find_first_not_of("0123456789") != std::string::npos) {
      continue;
    }
    found.push_back({std::stoll(digits), name});
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    throw unreadable_checkpoint(directory, error.message());
  }
  std::sort(found.begin(), found.end(),
            [](const Listed& a, const Listed& b) { return a.step > b.step; });
  return found;
}

int64_t logical_elements(const Model& model) {
  const Parameter& last = model.parameters().back();
  return last.logical_offset + last.value.elements();
}

// The numbers of a flat arena as float without its padding, in the order of the parameter list.
// Straight to where they belong: a model need not fit into the host's memory twice.
void download_logical(std::span<std::byte> bytes, const Model& model, Tensor arena) {
  for (const Parameter& parameter : model.parameters()) {
    const Tensor part = parameter.part_of(arena);
    std::byte* to = bytes.data() + parameter.logical_offset * size_of(DType::f32);
    if (part.dtype == DType::f32) {
      model.ops().download(to, part);
      continue;
    }
    const std::vector<float> numbers = download_floats(model.ops(), part);
    std::memcpy(to, numbers.data(), numbers.size() * sizeof(float));
  }
}

void upload_logical(const Model& model, Tensor arena, const SafetensorsFile& file,
                    const std::string& name) {
  const std::span<const std::byte> bytes = file.bytes(name);
  const StoredTensor& stored = file.tensors().at(name);
  if (stored.type != StoredType::f32 || stored.elements() != logical_elements(model)) {
    throw input_error(file.path() + ": " + name +
                      " does not belong to this model (another type or number of parameters). "
                      "Choose another run.directory");
  }
  for (const Parameter& parameter : model.parameters()) {
    const Tensor part = parameter.part_of(arena);
    const std::byte* from = bytes.data() + parameter.logical_offset * size_of(DType::f32);
    if (part.dtype == DType::f32) {
      model.ops().upload(part, from);
      continue;
    }
    std::vector<float> numbers(static_cast<size_t>(part.elements()));
    std::memcpy(numbers.data(), from, numbers.size() * sizeof(float));
    upload_floats(model.ops(), part, numbers);
  }
}

uint64_t write_moments(const Model& model, const Optimizer& optimizer, const std::string& path) {
  std::vector<TensorToWrite> tensors;
  const auto add = [&](const char* name, Tensor arena) {
    TensorToWrite tensor;
    tensor.name = name;
    tensor.shape = {logical_elements(model)};
    tensor.fill = [&model, arena](std::span<std::byte> bytes) {
      download_logical(bytes, model, arena);
    };
    tensors.push_back(std::move(tensor));
  };
  add("first_moment", optimizer.first_moment());
  add("second_moment", optimizer.second_moment());
  return write_safetensors(path, tensors);
}

// The weights in full; in bf16 where that is what they are.
StoredType weights_type(const Model& model, const Optimizer& optimizer) {
  const bool narrow = !optimizer.masters() && model.values().dtype == DType::bf16;
  return narrow ? StoredType::bf16 : StoredType::f32;
}

// The newest checkpoint under `directory` whose content is sound.
std::optional<CheckpointDirectory::Found> newest_intact(const std::string& directory,
                                                        std::vector<std::string>& warnings) {
  for (const Listed& listed : list(directory)) {
    const std::string path = directory + "/" + listed.name;
    const Inspection inspection = inspect_checkpoint(path);
    if (inspection.damage.empty()) return CheckpointDirectory::Found{path, inspection.state};
    warnings.push_back("checkpoint " + path + " is damaged and passed over (" + inspection.damage +
                       ")");
  }
  return std::nullopt;
}

Error not_changed(const fs::filesystem_error& error) {
  return Error(error.path1().string() + ": cannot be changed (" + error.code().message() +
               "). See to its disk and permissions, and run the same command again");
}

// What a process that was killed while it saved has left.
void tidy(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) {
    names.push_back(entry.path().filename().string());
  }
  for (const std::string& name : names) {
    const std::string path = directory + "/" + name;
    if (name.starts_with(kPartial)) fs::remove_all(path);
    if (!name.starts_with(kReplaced)) continue;
    const std::string original = directory + "/" + name.substr(std::strlen(kReplaced));
    if (fs::exists(original)) {
      fs::remove_all(path);
    } else {
      fs::rename(path, original);
    }
  }
}

// The complete directory gets its name.
void put_in_place(const std::string& directory, const std::string& partial,
                  const std::string& name) {
  const std::string target = directory + "/" + name;
  const std::string replaced = directory + "/" + kReplaced + name;
  // A checkpoint of the same step can only be a damaged one that was passed over.
  const bool replaces = fs::exists(target);
  if (replaces) fs::rename(target, replaced);
  fs::rename(partial, target);
  sync_directory(directory);
  if (replaces) fs::remove_all(replaced);
}

void remove_all_but(int64_t keep, int64_t newest_step, const std::string& directory) {
  int64_t kept = 0;
  for (const Listed& listed : list(directory)) {
    // Newer ones are damaged and were passed over: they do not count.
    if (listed.step > newest_step || kept++ < std::max<int64_t>(keep, 1)) continue;
    // Renamed first, so that a half-removed directory is never taken for a checkpoint.
    const std::string doomed = directory + "/" + kPartial + listed.name;
    fs::rename(directory + "/" + listed.name, doomed);
    fs::remove_all(doomed);
  }
}

}  // namespace

std::string checkpoint_name(int64_t step) {
  char text[32];
  std::snprintf(text, sizeof(text), "step-%08lld", static_cast<long long>(step));
  return text;
}

bool has_checkpoints(const std::string& run_directory) {
  return !list(run_directory + "/checkpoints").empty();
}

CheckpointDirectory::CheckpointDirectory(const std::string& run_directory, Holder holder)
    : path_(run_directory + "/checkpoints") {
  if (holder == Holder::other_rank) return;
  require_writable_directory(path_);
  try {
    tidy(path_);
  } catch (const fs::filesystem_error& error) {
    throw not_changed(error);
  }
}

void CheckpointDirectory::save(const Model& model, const Optimizer& optimizer,
                               const TrainingState& state, const ModelDescription& description,
                               int64_t keep) try {
  const std::string name = checkpoint_name(state.step);
  const std::string partial = path_ + "/" + kPartial + name;
  fs::remove_all(partial);
  fs::create_directory(partial);
  std::map<std::string, std::string> checksums;
  const StoredType type = weights_type(model, optimizer);
  checksums["model.safetensors"] =
      hexadecimal(write_weights(model, partial + "/model.safetensors", optimizer.masters(), type));
  checksums["optimizer-00000.safetensors"] =
      hexadecimal(write_moments(model, optimizer, partial + "/optimizer-00000.safetensors"));
  ModelDescription written = description;
  if (type == StoredType::bf16) written.type = "bfloat16";
  for (const std::string& file : write_description(partial, written)) {
    checksums[file] = hexadecimal(hash_file(partial + "/" + file));
  }
  write_file_synced(partial + "/state.json", state_text(state, checksums));
  sync_directory(partial);
  put_in_place(path_, partial, name);
  remove_all_but(keep, state.step, path_);
} catch (const fs::filesystem_error& error) {
  throw not_changed(error);
}

void CheckpointDirectory::verify_saved(int64_t step) const {
  const std::string path = path_ + "/" + checkpoint_name(step);
  std::string damage;
  try {
    damage = inspect_checkpoint(path).damage;
  } catch (const Error& error) {
    damage = error.what();
  }
  if (damage.empty()) return;
  throw Error(path + ": just written, does not verify (" + damage +
              "). The disk does not give back what it was given, or another program changed it: "
              "check it, then run the same command again");
}

std::optional<CheckpointDirectory::Found> CheckpointDirectory::newest_good(
    std::vector<std::string>& warnings) const {
  const auto found = newest_intact(path_, warnings);
  if (found || warnings.empty()) return found;
  throw input_error(path_ + ": no checkpoint is intact (" + warnings.back() +
                    "). Restore one, or start anew in another run.directory");
}

void CheckpointDirectory::load(const Found& found, Model& model, Optimizer& optimizer) {
  load_weights(model, found.path, optimizer.masters());
  const SafetensorsFile file(found.path + "/optimizer-00000.safetensors");
  upload_logical(model, optimizer.first_moment(), file, "first_moment");
  upload_logical(model, optimizer.second_moment(), file, "second_moment");
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
  adopt_model_of(directory, config);
  for (std::string& warning : read_config_json(directory).warnings) {
    warnings.push_back(std::move(warning));
  }
  return directory;
}

void adopt_model_of(const std::string& directory, Config& config) {
  const double dropout = config.model.dropout;
  const ModelDescription description = read_config_json(directory);
  config.model = description.config;
  config.model_from_norms = description.norms;
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
}

}  // namespace normlab
