// Checkpoints: directories that are complete or not there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/checkpoint_state.h"
#include "engine/hugging_face.h"
#include "engine/optimizer.h"
#include "engine/run_directory.h"
#include "models/model.h"

namespace normlab {

// Files of a checkpoint: model.safetensors (the masters where there are some, so that a run in any
// precision can open it; in bf16 where the weights have none), config.json and the tokenizer's
// files (a Hugging Face directory), optimizer-00000.safetensors (moments by logical offset; of
// several ranks one file each, whose metadata says which ranges it has: any number can go on),
// state.json (schema, TrainingState, code, mode and std of every norm that is not live, a checksum
// of every file, its own content included).
class CheckpointDirectory {
 public:
  // RUN/checkpoints. As the first rank: made where it is not there; removes what a killed process
  // left half written, and puts back what it was about to replace.
  explicit CheckpointDirectory(const std::string& run_directory,
                               Holder holder = Holder::first_rank);

  // Writes step-00000100 beside, syncs, renames; then removes all but the newest `keep` up to this
  // step. All ranks of the optimizer's job call it, and each writes its share of the moments.
  // Throws an Error that names path and reason.
  void save(const Model& model, Optimizer& optimizer, const TrainingState& state,
            const ModelDescription& description, int64_t keep);

  // The same removal, which a process that is killed while it saves leaves undone.
  void remove_all_but(int64_t keep, int64_t newest_step) const;

  // Throws an Error where what save() has just written for this step is not what is on the disk.
  void verify_saved(int64_t step) const;

  // The newest checkpoint whose every file matches its checksum; `warnings` names each newer one
  // that does not, and why. None where there is no checkpoint at all; an input Error where there
  // are only damaged ones, or a newer one is of a newer version; an Error where one cannot be read.
  struct Found {
    std::string path;
    TrainingState state;
  };
  std::optional<Found> newest_good(std::vector<std::string>& warnings) const;
  static void load(const Found& found, Model& model, Optimizer& optimizer);

 private:
  std::string path_;
};

// "step-00000100".
std::string checkpoint_name(int64_t step);
// Of a run directory, the newest first, damaged ones included. Throws an Error where it cannot be
// read.
std::vector<std::string> checkpoint_paths(const std::string& run_directory);
// How many ranks wrote a checkpoint.
int ranks_of_checkpoint(const std::string& path);
// Whether a run directory has checkpoints, damaged ones included. Throws an Error where it cannot
// be read.
bool has_checkpoints(const std::string& run_directory);

// From a MODEL of the command line (a run, a checkpoint or a Hugging Face directory) to the
// directory with its config.json. Warnings as above. Throws an input Error where it is none of
// these.
std::string model_directory(const std::string& path, std::vector<std::string>& warnings);

// Puts the model of model.from in the place of config.model, but for dropout, which is the run's;
// returns its directory. Throws an input Error where it is of another family than model.family, or
// its context shorter than data.sequence_length.
std::string adopt_model(Config& config, std::vector<std::string>& warnings);
// The same from a directory with a config.json, which model.from need not name.
void adopt_model_of(const std::string& directory, Config& config);

}  // namespace normlab
