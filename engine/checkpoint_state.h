// state.json: what a checkpoint says of itself, and whether all of its content is sound.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "engine/norm_states.h"
#include "kernels/error.h"

namespace normlab {

// What a run was trained on.
struct DataIdentity {
  uint64_t corpus_hash = 0;  // TokenCorpus::hash() of the training corpus
  int64_t corpus_tokens = 0;
  std::string tokenizer;        // "": not known
  uint64_t tokenizer_hash = 0;  // 0: not known
  std::string manifest;         // its path; "": there is none
};

// What state.json holds beside the checksums.
struct TrainingState {
  int64_t step = 0;           // completed updates
  int64_t data_position = 0;  // sequences taken
  int64_t skipped_in_row = 0;
  DataIdentity data;
  std::vector<NormRecord> norms;  // every site; empty where none was ever anything but live
  std::string configuration_hash;
  std::string code;  // code_version() of the program that wrote it; read, not given
};

// Text of state.json; `checksums` by file name, its own is added.
std::string state_text(const TrainingState& state,
                       const std::map<std::string, std::string>& checksums);

// What a checkpoint holds, or what is wrong with its content: a file that is missing, has another
// checksum or is not what it must be. "" where nothing is.
struct Inspection {
  TrainingState state;
  std::string damage;
};
// Throws an input Error where a newer version wrote it, and another Error where it cannot be read
// (permissions, the disk): then it may well be good.
Inspection inspect_checkpoint(const std::string& directory);

// Of a file or directory that cannot be read.
Error unreadable_checkpoint(const std::string& path, const std::string& reason);

}  // namespace normlab
