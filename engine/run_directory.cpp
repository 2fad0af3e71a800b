#include "engine/run_directory.h"

#include <filesystem>

#include "engine/hash.h"
#include "kernels/error.h"

namespace normlab {
namespace fs = std::filesystem;

namespace {

// Nothing is in it but what a start that was cut short leaves: the lock, empty files and
// directories; and what ranks leave that have come here before this one.
bool untouched(const std::string& path) {
  for (const auto& entry : fs::directory_iterator(path)) {
    const fs::path name = entry.path().filename();
    if (name == ".lock" || name == kRendezvousDirectory) continue;
    if (!(entry.is_directory() ? is_bare(entry.path()) : fs::is_empty(entry.path()))) return false;
  }
  return true;
}

// Before the lock file appears.
void prepare(const std::string& path, Start start) try {
  require_writable_directory(path);
  if (untouched(path)) return;
  if (start == Start::fresh) {
    throw input_error(path +
                      ": is not empty, and --fresh does not go on from it or delete it. "
                      "Choose another run.directory, or remove it yourself");
  }
  const std::string checkpoints = path + "/checkpoints";
  if (!fs::exists(path + "/config.yaml") && fs::exists(checkpoints) && !is_bare(checkpoints)) {
    throw input_error(path +
                      ": has checkpoints but no config.yaml, so they cannot be told to be "
                      "this run's. Choose another run.directory");
  }
} catch (const fs::filesystem_error& error) {
  throw input_error(path + ": cannot be looked into (" + error.code().message() +
                    "). Change its permissions or choose another run.directory");
}

}  // namespace

std::string configuration_hash(const Config& config) {
  return hexadecimal(hash_text(identity(to_yaml(config))));
}

RunDirectory::RunDirectory(const Config& config, Start start, Holder holder)
    : path_(config.run.directory),
      yaml_(to_yaml(config)),
      configuration_hash_(normlab::configuration_hash(config)) {
  if (holder == Holder::other_rank) return;
  prepare(path_, start);
  lock_.emplace(path_);
  const std::string kept = path_ + "/config.yaml";
  if (!fs::exists(kept)) return;
  const std::vector<std::string> changed = differences(read_file(kept), yaml_);
  if (changed.empty()) return;
  std::string message = path_ + ": belongs to another configuration (";
  for (size_t i = 0; i < changed.size(); ++i) message += (i == 0 ? "" : "; ") + changed[i];
  throw input_error(message +
                    "). Choose another run.directory, or undo the change; to train on from "
                    "this one's weights, model.from=" +
                    path_ + " in another run.directory");
}

void RunDirectory::keep() const {
  if (lock_) write_file_atomically(path_ + "/config.yaml", yaml_);
}

}  // namespace normlab
