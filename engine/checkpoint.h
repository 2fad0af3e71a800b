// Checkpoints: directories that are complete or not there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/hugging_face.h"
#include "engine/optimizer.h"
#include "models/model.h"

namespace normlab {

// What state.json holds beside the checksums.
struct TrainingState {
  int64_t step = 0;           // completed updates
  int64_t data_position = 0;  // sequences taken
  int64_t skipped_in_row = 0;
  uint64_t corpus_hash = 0;   // of the training tokens
  std::string configuration_hash;
};

// Files of a checkpoint: model.safetensors and config.json (a Hugging Face directory),
// optimizer-00000.safetensors (moments by logical offset), state.json (schema, TrainingState, code,
// a checksum of every file, its own content included).
class CheckpointDirectory {
 public:
  // RUN/checkpoints; made where it is not there. Removes what a killed process left half written.
  explicit CheckpointDirectory(const std::string& run_directory);

  // Writes step-00000100 beside, syncs, renames; then removes all but the newest `keep` up to this
  // step.
  void save(const Model& model, const Optimizer& optimizer, const TrainingState& state,
            const ModelDescription& description, int64_t keep);

  // The newest checkpoint whose every file matches its checksum; `warnings` names each newer one
  // that does not, and why. None where there is no checkpoint at all; an input Error where there are
  // only damaged ones.
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
// Reads and verifies a checkpoint's state.json and checksums. Throws an input Error.
TrainingState verify_checkpoint(const std::string& directory);

// From a MODEL of the command line (a run, a checkpoint or a Hugging Face directory) to the directory
// with its config.json. Warnings as above. Throws an input Error where it is none of these.
std::string model_directory(const std::string& path, std::vector<std::string>& warnings);

// Puts the model of model.from in the place of config.model, but for dropout, which is the run's;
// returns its directory. Throws an input Error where it is of another family than model.family, or
// its context shorter than data.sequence_length.
std::string adopt_model(Config& config, std::vector<std::string>& warnings);

}  // namespace normlab
