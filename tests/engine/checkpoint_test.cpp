#include "engine/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "engine/files.h"
#include "small_model.h"
#include "temporary_folder.h"

using namespace normlab;
using namespace normlab::test;

namespace fs = std::filesystem;

namespace {

// A model with an optimizer whose moments are not zero, and a run directory.
class SmallRun {
 public:
  explicit SmallRun(const ModelConfig& config = small_config(Family::gpt2))
      : small(config, Purpose::training), optimizer(small.model, {}) {
    std::vector<float> numbers(static_cast<size_t>(optimizer.first_moment().elements()));
    for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i % 1'000'003);
    upload_floats(*small.ops, optimizer.first_moment(), numbers);
    std::reverse(numbers.begin(), numbers.end());
    upload_floats(*small.ops, optimizer.second_moment(), numbers);
  }
  void save(int64_t step, int64_t keep = 9) {
    TrainingState state;
    state.step = step;
    CheckpointDirectory(folder.path())
        .save(small.model, optimizer, state, {small.model.config(), "bytes"}, keep);
  }
  std::string checkpoints() const { return folder.path() + "/checkpoints"; }
  std::string checkpoint(int64_t step) const { return checkpoints() + "/" + checkpoint_name(step); }
  // Names of the entries of checkpoints/, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(checkpoints())) {
      all.push_back(entry.path().filename().string());
    }
    std::sort(all.begin(), all.end());
    return all;
  }
  std::string newest_good() const {
    std::vector<std::string> warnings;
    const auto found = CheckpointDirectory(folder.path()).newest_good(warnings);
    return found ? found->path : "none";
  }

  TemporaryFolder folder;
  SmallModel small;
  Optimizer optimizer;
};

// Message and kind of the Error that the action must throw.
std::pair<std::string, ErrorKind> error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return {error.what(), error.kind()};
  }
  return {"no error", ErrorKind::failure};
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// In KiB; 0 where the system does not tell.
int64_t memory(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key + ":")) return std::stoll(line.substr(key.size() + 1));
  }
  return 0;
}

// How much more memory the action needs at its peak, KiB; 0 where the system does not tell.
int64_t memory_growth(const std::function<void()>& action) {
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak begins anew
  const int64_t before = memory("VmRSS");
  if (memory("VmHWM") > before + before / 10) return 0;
  action();
  return memory("VmHWM") - before;
}

}  // namespace

TEST_CASE("checkpoint: weights and moments come back with all their bits") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    SmallRun run(small_config(family));
    run.save(5);
    SmallRun other(small_config(family));
    other.small.ops->zero(other.optimizer.first_moment());
    other.small.ops->zero(other.optimizer.second_moment());
    other.small.model.initialize(99);
    CheckpointDirectory::load({run.checkpoint(5), {}}, other.small.model, other.optimizer);
    CHECK(other.small.values() == run.small.values());
    // The gaps of the arenas are no part of it.
    for (const Parameter& parameter : run.small.model.parameters()) {
      INFO(parameter.name);
      const auto same = [&](Tensor one, Tensor two) {
        const int64_t begin = parameter.arena_offset, count = parameter.value.elements();
        return download_floats(*run.small.ops, one.column_slice(begin, count)) ==
               download_floats(*other.small.ops, two.column_slice(begin, count));
      };
      CHECK(same(run.optimizer.first_moment(), other.optimizer.first_moment()));
      CHECK(same(run.optimizer.second_moment(), other.optimizer.second_moment()));
    }
  }
}

TEST_CASE("checkpoint: one that cannot be read is not taken for damaged") {
  const std::vector<std::pair<std::string, std::string>> links = {
      // To itself: it cannot be opened. To the memory of this process: it cannot be read.
      {"state.json", "state.json"},
      {"state.json", "/proc/self/mem"},
      {"model.safetensors", "model.safetensors"},
      {"model.safetensors", "/proc/self/mem"},
      {"optimizer-00000.safetensors", "optimizer-00000.safetensors"},
      {"config.json", "config.json"}};
  SmallRun run;
  run.save(5);
  for (const auto& [name, target] : links) {
    INFO(name << " is a link to " << target);
    run.save(10);
    fs::remove(run.checkpoint(10) + "/" + name);
    fs::create_symlink(target, run.checkpoint(10) + "/" + name);
    const auto [message, kind] = error_of([&] { run.newest_good(); });
    CHECK(has(message, run.checkpoint(10) + "/" + name + ": cannot be "));
    CHECK(kind == ErrorKind::failure);
    fs::remove_all(run.checkpoint(10));
  }
  fs::remove_all(run.checkpoints());
  fs::create_symlink("checkpoints", run.checkpoints());
  CHECK(has(error_of([&] { has_checkpoints(run.folder.path()); }).first, "cannot be read"));
}

TEST_CASE("checkpoint: one of a newer version is named and not passed over") {
  SmallRun run;
  run.save(5);
  run.save(10);
  const std::string path = run.checkpoint(10) + "/state.json";
  auto state = nlohmann::ordered_json::parse(read_file(path));
  state["schema"] = 2;
  write_file_atomically(path, state.dump());
  const auto [message, kind] = error_of([&] { run.newest_good(); });
  CHECK(has(message, path + ": written by a newer version"));
  CHECK(kind == ErrorKind::input);
  // Nothing was ever written by an older one.
  state["schema"] = 0;
  write_file_atomically(path, state.dump());
  CHECK(run.newest_good() == run.checkpoint(5));
}

TEST_CASE("checkpoint: a damaged one of the same step goes when the new one is in place") {
  SmallRun run;
  run.save(5);
  write_file_atomically(run.checkpoint(5) + "/config.json", "{}");
  CHECK(error_of([&] { run.newest_good(); }).second == ErrorKind::input);
  run.save(5);
  CHECK(run.newest_good() == run.checkpoint(5));
  CHECK(run.names() == std::vector<std::string>{"step-00000005"});
}

TEST_CASE("checkpoint: a process killed while it replaces one leaves one of the two") {
  SmallRun run;
  run.save(5);
  const std::string aside = run.checkpoints() + "/.replaced-step-00000005";
  // Between the two renamings: the old one is put back, whatever it is worth.
  fs::rename(run.checkpoint(5), aside);
  CHECK(run.newest_good() == run.checkpoint(5));
  // After them: the new one stays.
  fs::create_directory(aside);
  CHECK(run.newest_good() == run.checkpoint(5));
  CHECK(run.names() == std::vector<std::string>{"step-00000005"});
}

TEST_CASE("checkpoint: what the file system refuses is named") {
  SmallRun run;
  run.save(5);
  const CheckpointDirectory directory(run.folder.path());
  fs::remove_all(run.checkpoints());
  run.folder.write("checkpoints", "a file");
  TrainingState state;
  const auto [message, kind] = error_of([&] {
    CheckpointDirectory(directory).save(run.small.model, run.optimizer, state,
                                        {run.small.model.config(), "bytes"}, 1);
  });
  INFO(message);
  CHECK(has(message, run.checkpoints() + "/.partial-step-00000000"));
  CHECK(has(message, "Not a directory"));
  CHECK(has(message, "run the same command again"));
  CHECK(kind == ErrorKind::failure);
}

TEST_CASE("checkpoint: one just written that does not verify is no mistake of the input") {
  SmallRun run;
  run.save(5);
  const CheckpointDirectory directory(run.folder.path());
  directory.verify_saved(5);
  write_file_atomically(run.checkpoint(5) + "/config.json", "{}");
  const auto [message, kind] = error_of([&] { directory.verify_saved(5); });
  CHECK(has(message, run.checkpoint(5) + ": just written, does not verify"));
  CHECK(has(message, "config.json: differs"));
  CHECK(has(message, "run the same command again"));
  CHECK(kind == ErrorKind::failure);
}

TEST_CASE("checkpoint: state.json has the keys of the contract") {
  SmallRun run;
  run.save(5);
  const auto state = nlohmann::json::parse(read_file(run.checkpoint(5) + "/state.json"));
  for (const char* key : {"schema", "step", "data_position", "corpus_hash", "corpus_tokens",
                          "configuration_hash", "code", "checksums"}) {
    INFO(key);
    CHECK(state.contains(key));
  }
  CHECK(state.at("norms") == nlohmann::json::array());
}

TEST_CASE("checkpoint: saving takes no more host memory than one moment does") {
  if (SANITIZED) return;  // whose memory is not the program's
  ModelConfig config = small_config(Family::gpt2);
  config.layers = 12;  // no tensor is a large part of the whole
  config.width = 256;
  config.head_size = 64;
  config.feed_forward = 1024;
  SmallRun run(config);
  const auto elements = static_cast<size_t>(run.small.model.values().elements());
  const int64_t moment = memory_growth([&] { std::vector<float>(elements, 1.0F).at(7) = 2; });
  const int64_t saving = memory_growth([&] { run.save(1); });
  if (moment < static_cast<int64_t>(elements) * 4 / 1024 / 2) {
    WARN("the peak of memory cannot be measured here");
    return;
  }
  CHECK(saving < moment * 3 / 2);
}
