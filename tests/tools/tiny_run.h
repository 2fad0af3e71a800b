// A whole run that takes a fraction of a second.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/tools/process.h"

namespace normlab::test {

using Overrides = std::vector<std::string>;

// A recipe and the directory of its run, in a temporary folder. GPT-2 of 2 layers and width 32 on
// 36 training documents of the grammar (about 300 sequences of 32 tokens), 8 sequences a step, with
// dropout, 60 steps, evaluated and saved every 10.
class TinyRun {
 public:
  // `overrides` go with every command; `trainer` is the program that trains.
  explicit TinyRun(const Overrides& overrides = {}, const std::string& trainer = "train");

  std::string directory() const { return folder_.path() + "/run"; }
  std::string recipe() const { return folder_.path() + "/recipe.yaml"; }
  const TemporaryFolder& folder() const { return folder_; }
  std::string checkpoint(int64_t step) const;
  // Names of the entries of checkpoints/, sorted.
  std::vector<std::string> checkpoints() const;
  // The command `train RECIPE …`.
  std::vector<std::string> command(const Overrides& more = {}) const;
  Finished train(const Overrides& more = {}) const { return run(command(more)); }
  // Trains to the end; throws where that fails.
  const TinyRun& trained(const Overrides& more = {}) const;
  // Lines of metrics.jsonl; throws where one is no JSON.
  std::vector<nlohmann::json> metrics() const;
  // Of the last row.
  int64_t last_step() const;

 private:
  TemporaryFolder folder_;
  Overrides overrides_;
  std::string trainer_;
};

// The files of two directories that are not equal byte by byte; empty where all are.
std::vector<std::string> different_files(const std::string& one, const std::string& other);
// Path and bytes of every file below a directory, but for the lock.
std::map<std::string, std::string> tree_of(const std::string& directory);
void flip_byte(const std::string& path, int64_t place);
// Changes state.json of a checkpoint and makes its checksum anew.
void edit_state(const std::string& checkpoint,
                const std::function<void(nlohmann::ordered_json&)>& edit);

// A text of so many lines, a function of its length.
std::string story(int lines);
// The text's validation part as a run with data.text takes it, written as a shard.
void write_validation_shard(const std::string& shard, const std::string& text_file);

}  // namespace normlab::test
