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
constexpr const char* kMoments = "optimizer-";
// Metadata of a file of moments that has not all of them.
constexpr const char* kLogicalRanges = "logical_ranges";
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

// "optimizer-00002.safetensors".
std::string moments_name(int rank) {
  char text[64];
  std::snprintf(text, sizeof(text), "%s%05d.safetensors", kMoments, rank);
  return text;
}

int64_t logical_elements(const Model& model) {
  const Parameter& last = model.parameters().back();
  return last.logical_offset + last.value.elements();
}

// Part [first, first + count) of a flat tensor, to numbers of float and back.
void download_part(std::byte* to, Ops& ops, Tensor flat, int64_t first, int64_t count) {
  const Tensor part = flat.column_slice(first, count);
  if (part.dtype == DType::f32) return ops.download(to, part);
  const std::vector<float> numbers = download_floats(ops, part);
  std::memcpy(to, numbers.data(), numbers.size() * sizeof(float));
}

void upload_part(Ops& ops, Tensor flat, int64_t first, int64_t count, const std::byte* from) {
  const Tensor part = flat.column_slice(first, count);
  if (part.dtype == DType::f32) return ops.upload(part, from);
  std::vector<float> numbers(static_cast<size_t>(count));
  std::memcpy(numbers.data(), from, numbers.size() * sizeof(float));
  upload_floats(ops, part, numbers);
}

// This rank's share of the moments, without padding, in the order of the parameter list; straight
// to where it belongs: a model need not fit into the host's memory twice.
uint64_t write_moments(const Model& model, const Optimizer& optimizer, const std::string& path) {
  const Communicator& job = optimizer.communicator();
  // Of all ranks together everything, once, also where each of them has everything.
  const std::vector<Piece> wanted =
      pieces_of(model.parameters(), share_of(model.buckets(), job.rank(), job.ranks()));
  const std::vector<Piece> held = pieces_of(model.parameters(), optimizer.share());
  int64_t elements = 0;
  for (const Piece& piece : wanted) elements += piece.count;
  const auto add = [&](const char* name, Tensor moments) {
    TensorToWrite tensor;
    tensor.name = name;
    tensor.shape = {elements};
    tensor.fill = [&, moments](std::span<std::byte> bytes) {
      std::byte* to = bytes.data();
      for (const Piece& piece : wanted) {
        download_part(to, model.ops(), moments, packed_place(held, piece), piece.count);
        to += piece.count * size_of(DType::f32);
      }
    };
    return tensor;
  };
  std::map<std::string, std::string> metadata;
  if (job.ranks() > 1) metadata[kLogicalRanges] = ranges_text(wanted);
  return write_safetensors(path,
                           {add("first_moment", optimizer.first_moment()),
                            add("second_moment", optimizer.second_moment())},
                           metadata);
}

Error foreign_moments(const std::string& path, const std::string& why) {
  return input_error(path + ": does not belong to this model (" + why +
                     "). Choose another run.directory");
}

// The logical ranges of a file of moments, checked against the model and the file's tensors.
std::vector<Range> ranges_of(const SafetensorsFile& file, const Model& model) {
  std::vector<Range> ranges = {{0, logical_elements(model)}};
  const auto said = file.metadata().find(kLogicalRanges);
  try {
    if (said != file.metadata().end()) ranges = parse_ranges(said->second);
  } catch (const Error& error) {
    throw foreign_moments(file.path(), error.what());
  }
  for (const char* name : {"first_moment", "second_moment"}) {
    const auto tensor = file.tensors().find(name);
    if (tensor == file.tensors().end() || tensor->second.type != StoredType::f32 ||
        tensor->second.elements() != total(ranges) ||
        (!ranges.empty() && ranges.back().end > logical_elements(model))) {
      throw foreign_moments(file.path(),
                            std::string(name) + " has another type or number of parameters");
    }
  }
  return ranges;
}

// What a file has of this rank's moments; returns how many numbers that are.
int64_t read_moments(const SafetensorsFile& file, const Model& model, const Optimizer& optimizer) {
  int64_t found = 0;
  int64_t place = 0;  // in the file's tensors
  for (const Range& range : ranges_of(file, model)) {
    for (const Piece& piece : pieces_of(model.parameters(), optimizer.share())) {
      const int64_t begin = std::max(range.begin, piece.logical);
      const int64_t end = std::min(range.end, piece.logical + piece.count);
      if (begin >= end) continue;
      const int64_t packed = piece.packed + begin - piece.logical;
      const int64_t offset = (place + begin - range.begin) * size_of(DType::f32);
      upload_part(model.ops(), optimizer.first_moment(), packed, end - begin,
                  file.bytes("first_moment").data() + offset);
      upload_part(model.ops(), optimizer.second_moment(), packed, end - begin,
                  file.bytes("second_moment").data() + offset);
      found += end - begin;
    }
    place += range.count();
  }
  return found;
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

}  // namespace

std::string checkpoint_name(int64_t step) {
  char text[32];
  std::snprintf(text, sizeof(text), "step-%08lld", static_cast<long long>(step));
  return text;
}

std::vector<std::string> checkpoint_paths(const std::string& run_directory) {
  const std::string directory = run_directory + "/checkpoints";
  std::vector<std::string> paths;
  for (const Listed& listed : list(directory)) paths.push_back(directory + "/" + listed.name);
  return paths;
}

// Each has written a share of the moments.
int ranks_of_checkpoint(const std::string& path) {
  int ranks = 0;
  while (fs::exists(path + "/" + moments_name(ranks))) ++ranks;
  return ranks;
}

bool has_checkpoints(const std::string& run_directory) {
  return !checkpoint_paths(run_directory).empty();
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

void CheckpointDirectory::save(const Model& model, Optimizer& optimizer, const TrainingState& state,
                               const ModelDescription& description, int64_t keep) try {
  Communicator& job = optimizer.communicator();
  const std::string name = checkpoint_name(state.step);
  const std::string partial = path_ + "/" + kPartial + name;
  if (job.is_first()) {
    fs::remove_all(partial);
    fs::create_directory(partial);
  }
  job.all_equal(0);  // it is there
  const uint64_t own = write_moments(model, optimizer, partial + "/" + moments_name(job.rank()));
  optimizer.collect_masters();
  const std::vector<uint64_t> moments = job.gather(own);
  if (job.is_first()) {
    std::map<std::string, std::string> checksums;
    for (int rank = 0; rank < job.ranks(); ++rank) {
      checksums[moments_name(rank)] = hexadecimal(moments[static_cast<size_t>(rank)]);
    }
    const StoredType type = weights_type(model, optimizer);
    checksums["model.safetensors"] = hexadecimal(
        write_weights(model, partial + "/model.safetensors", optimizer.masters(), type));
    ModelDescription written = description;
    if (type == StoredType::bf16) written.type = "bfloat16";
    for (const std::string& file : write_description(partial, written)) {
      checksums[file] = hexadecimal(hash_file(partial + "/" + file));
    }
    write_file_synced(partial + "/state.json", state_text(state, checksums));
    sync_directory(partial);
    put_in_place(path_, partial, name);
    remove_all_but(keep, state.step);
  }
  job.all_equal(0);  // nobody goes on, or ends, before it is complete
} catch (const fs::filesystem_error& error) {
  throw not_changed(error);
}

void CheckpointDirectory::remove_all_but(int64_t keep, int64_t newest_step) const try {
  int64_t kept = 0;
  for (const Listed& listed : list(path_)) {
    // Newer ones are damaged and were passed over: they do not count.
    if (listed.step > newest_step || kept++ < std::max<int64_t>(keep, 1)) continue;
    // Renamed first, so that a half-removed directory is never taken for a checkpoint.
    const std::string doomed = path_ + "/" + kPartial + listed.name;
    fs::rename(path_ + "/" + listed.name, doomed);
    fs::remove_all(doomed);
  }
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
  optimizer.keep_masters();
  int64_t numbers = 0;
  for (int rank = 0; rank < ranks_of_checkpoint(found.path); ++rank) {
    const SafetensorsFile file(found.path + "/" + moments_name(rank));
    numbers += read_moments(file, model, optimizer);
  }
  int64_t wanted = 0;
  for (const Piece& piece : pieces_of(model.parameters(), optimizer.share())) wanted += piece.count;
  if (numbers == wanted) return;
  throw foreign_moments(found.path, "its optimizer files have " + std::to_string(numbers) + " of " +
                                        std::to_string(wanted) + " moments");
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
