#include "tests/tools/tiny_run.h"

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "data/text_reader.h"
#include "data/token_shards.h"
#include "engine/hash.h"
#include "tests/data/corpora.h"

namespace normlab::test {
namespace {

namespace fs = std::filesystem;

const std::string recipe_text =
    "model:      {family: gpt2, layers: 2, width: 32, heads: 2, context: 32, dropout: 0.1}\n"
    "data:       {grammar: {documents: 40}, sequence_length: 32}\n"
    "batch:      {tokens_per_step: 256, micro_batch: 4}\n"
    "optimizer:  {learning_rate: 3.0e-3, weight_decay: 0.1, gradient_clip: 1.0}\n"
    "schedule:   {kind: cosine, total_steps: 60, warmup_steps: 4, minimum_ratio: 0.1}\n"
    "evaluation: {every: 10}\n"
    "checkpoint: {every: 10}\n";

}  // namespace

TinyRun::TinyRun(const Overrides& overrides, const std::string& trainer)
    : overrides_(overrides), trainer_(trainer) {
  folder_.write("recipe.yaml", "run: {directory: " + directory() +
                                   ", seed: 7, device: cpu, threads: 1}\n" + recipe_text);
}

std::string TinyRun::checkpoint(int64_t step) const {
  char name[32];
  std::snprintf(name, sizeof(name), "step-%08lld", static_cast<long long>(step));
  return directory() + "/checkpoints/" + name;
}

std::vector<std::string> TinyRun::checkpoints() const {
  std::vector<std::string> names;
  if (!fs::exists(directory() + "/checkpoints")) return names;
  for (const auto& entry : fs::directory_iterator(directory() + "/checkpoints")) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> TinyRun::command(const Overrides& more) const {
  std::vector<std::string> words = {program(trainer_), recipe()};
  words.insert(words.end(), overrides_.begin(), overrides_.end());
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

const TinyRun& TinyRun::trained(const Overrides& more) const {
  const Finished finished = train(more);
  if (finished.exit_code != 0) throw Error("a run that must succeed failed: " + finished.err);
  return *this;
}

std::vector<nlohmann::json> TinyRun::metrics() const {
  std::istringstream lines(content(directory() + "/metrics.jsonl"));
  std::vector<nlohmann::json> rows;
  for (std::string line; std::getline(lines, line);) rows.push_back(nlohmann::json::parse(line));
  return rows;
}

int64_t TinyRun::last_step() const { return metrics().back().at("step").get<int64_t>(); }

std::map<std::string, std::string> tree_of(const std::string& directory) {
  std::map<std::string, std::string> tree;
  if (!fs::exists(directory)) return tree;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    const std::string path = entry.path().string();
    if (entry.path().filename() == ".lock") continue;  // which names the last process
    tree[path.substr(directory.size())] = entry.is_regular_file() ? content(path) : "";
  }
  return tree;
}

std::vector<std::string> different_files(const std::string& one, const std::string& other) {
  const auto left = tree_of(one);
  const auto right = tree_of(other);
  std::vector<std::string> names;
  for (const auto& [name, bytes] : left) {
    if (!right.contains(name) || right.at(name) != bytes) names.push_back(name);
  }
  for (const auto& [name, bytes] : right) {
    if (!left.contains(name)) names.push_back(name);
  }
  if (left.empty()) names.push_back(one + " is empty");
  return names;
}

void flip_byte(const std::string& path, int64_t place) {
  std::string bytes = content(path);
  bytes.at(static_cast<size_t>(place)) ^= 1;
  std::ofstream(path, std::ios::binary) << bytes;
}

void edit_state(const std::string& checkpoint,
                const std::function<void(nlohmann::ordered_json&)>& edit) {
  const std::string path = checkpoint + "/state.json";
  auto state = nlohmann::ordered_json::parse(content(path));
  edit(state);
  state["checksums"].erase("state.json");
  state["checksums"]["state.json"] = hexadecimal(hash_text(state.dump()));
  std::ofstream(path, std::ios::binary) << state.dump(2) << "\n";
}

std::string story(int lines) {
  const std::vector<std::string> nouns = {"cat", "bridge", "river", "engine", "song"};
  const std::vector<std::string> verbs = {"sees", "follows", "forgets", "likes"};
  std::string text;
  for (int line = 0; line < lines; ++line) {
    const auto at = static_cast<size_t>(line * line + line / 3);
    text +=
        "The " + nouns[at % 5] + " " + verbs[at % 4] + " the " + nouns[(at / 2 + 1) % 5] + ".\n";
  }
  return text;
}

void write_validation_shard(const std::string& shard, const std::string& text_file) {
  const double fraction = 0.1;  // data.validation_fraction's default
  write_shard(shard,
              tokens_of(read_text({text_file}, *make_tokenizer("bytes"), fraction).validation));
}

}  // namespace normlab::test
