// Going on from a checkpoint: the same bytes, whatever happened to the directory before.
#include <algorithm>
#include <filesystem>

#include "catch.h"
#include "data/text_reader.h"
#include "data/token_shards.h"
#include "tests/data/corpora.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

namespace fs = std::filesystem;

namespace {

std::string step(int64_t number) { return "schedule.stop_step=" + std::to_string(number); }

void check_same(const std::string& one, const std::string& other) {
  CHECK(different_files(one, other) == std::vector<std::string>{});
}

bool says(const Finished& finished, const std::string& text) {
  return finished.err.find(text) != std::string::npos;
}

}  // namespace

TEST_CASE("train: a run interrupted around an epoch's edge goes on bit for bit") {
  // Two shards of 33 and 37 sequences of 32 tokens: an epoch is 8.75 steps of 8 sequences.
  const TemporaryFolder shards;
  const std::string text = shards.write("text.txt", story(90));
  const std::vector<uint16_t> tokens = tokens_of(read_text({text}, *make_tokenizer("bytes")));
  const std::span<const uint16_t> all(tokens);
  REQUIRE(tokens.size() >= 70 * 32 + 1);
  write_shard(shards.path() + "/train-0.bin", all.subspan(0, 33 * 32 + 5));
  write_shard(shards.path() + "/train-1.bin", all.subspan(33 * 32 + 5, 37 * 32 - 4));
  const Overrides data = {"data.grammar=null", "schedule.total_steps=30",
                          "data.train=[\"" + shards.path() + "/train-*.bin\"]"};
  const TinyRun whole(data);
  whole.trained();
  for (const int64_t edge : {1, 8, 9, 17, 18, 26}) {
    INFO("stopped at step " << edge);
    const TinyRun parted(data);
    parted.trained({step(edge)}).trained();
    check_same(parted.checkpoint(30), whole.checkpoint(30));
  }
}

TEST_CASE("train: an extended stop_step gives the bytes of an undisturbed longer run") {
  const TinyRun whole, extended;
  whole.trained();
  extended.trained({step(25)});
  const Finished more = extended.train({"checkpoint.every=7", "evaluation.every=0"});
  INFO(more.err);
  CHECK(more.exit_code == 0);
  CHECK(says(more, "going on from " + extended.checkpoint(25)));
  check_same(extended.checkpoint(60), whole.checkpoint(60));
}

TEST_CASE("train: a run goes on with other activations kept, and ends in the same bytes") {
  const TinyRun whole, other;
  whole.trained();
  other.trained({step(13), "batch.recompute=block"}).trained({step(31), "batch.recompute=mlp"});
  const Finished rest = other.train();
  INFO(rest.err);
  CHECK(rest.exit_code == 0);
  CHECK(says(rest, "going on from " + other.checkpoint(31)));
  check_same(other.checkpoint(60), whole.checkpoint(60));
}

TEST_CASE("train: a run begun from a model goes on where that is gone or another") {
  const TinyRun first;
  first.trained({step(10)});
  const std::string from = first.folder().path() + "/from";
  const Overrides begun = {"model={from: " + from + "}", "model.layers=null",  "model.width=null",
                           "model.heads=null",           "model.context=null", "model.family=null"};
  const auto begin = [&](const TinyRun& run) {
    fs::copy(first.checkpoint(10), from);
    run.trained({step(10)});
    fs::remove_all(from);
  };
  const TinyRun whole(begun), parted(begun), changed(begun);
  fs::copy(first.checkpoint(10), from);
  whole.trained();
  fs::remove_all(from);
  begin(parted);
  check_same(parted.trained().checkpoint(60), whole.checkpoint(60));
  begin(changed);
  const TinyRun wider({"model.width=64"});
  fs::copy(wider.trained({step(1)}).checkpoint(1), from);
  check_same(changed.trained().checkpoint(60), whole.checkpoint(60));
}

TEST_CASE("train: a damaged newest checkpoint is named and the one before taken") {
  const TinyRun whole;
  whole.trained();
  const std::string model = "/model.safetensors", moments = "/optimizer-00000.safetensors";
  const std::string state = "/state.json";
  const auto overwrite = [](const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  };
  const std::vector<std::pair<std::string, std::function<void(const std::string&)>>> damages = {
      {"a flipped weight", [&](const std::string& at) { flip_byte(at + model, 50'000); }},
      {"a flipped header", [&](const std::string& at) { flip_byte(at + model, 20); }},
      {"moments cut off", [&](const std::string& at) { fs::resize_file(at + moments, 10'000); }},
      {"no moments", [&](const std::string& at) { fs::remove(at + moments); }},
      {"no state.json", [&](const std::string& at) { fs::remove(at + state); }},
      {"state.json of zeros",
       [&](const std::string& at) { overwrite(at + state, std::string(99, '\0')); }},
      {"state.json that is a list", [&](const std::string& at) { overwrite(at + state, "[]"); }},
      {"state.json without checksums",
       [&](const std::string& at) {
         auto json = nlohmann::json::parse(content(at + state));
         json.erase("checksums");
         overwrite(at + state, json.dump());
       }},
      {"state.json with another data position",
       [&](const std::string& at) {
         auto json = nlohmann::ordered_json::parse(content(at + state));
         json["data_position"] = json["data_position"].get<int64_t>() + 8;
         overwrite(at + state, json.dump(2) + "\n");
       }},
      {"a changed config.json", [&](const std::string& at) { flip_byte(at + "/config.json", 30); }},
      {"an empty directory",
       [&](const std::string& at) {
         fs::remove_all(at);
         fs::create_directory(at);
       }},
  };
  for (const auto& [name, damage] : damages) {
    INFO(name);
    const TinyRun damaged;
    damaged.trained({step(30)});
    damage(damaged.checkpoint(30));
    const Finished finished = damaged.train();
    INFO(finished.err);
    REQUIRE(finished.exit_code == 0);
    CHECK(says(finished,
               "warning: checkpoint " + damaged.checkpoint(30) + " is damaged and passed over"));
    CHECK(says(finished, "going on from " + damaged.checkpoint(20)));
    CHECK(content(damaged.directory() + "/log.txt").find("is damaged") != std::string::npos);
    check_same(damaged.checkpoint(60), whole.checkpoint(60));
  }
}

TEST_CASE("train: where all checkpoints are damaged it stops and touches nothing") {
  const TinyRun damaged;
  damaged.trained();
  for (const std::string& name : damaged.checkpoints()) {
    flip_byte(damaged.directory() + "/checkpoints/" + name + "/model.safetensors", 50'000);
  }
  const auto before = tree_of(damaged.directory() + "/checkpoints");
  const Finished finished = damaged.train();
  INFO(finished.err);
  CHECK(finished.exit_code == 2);
  CHECK(says(finished, "no checkpoint is intact"));
  CHECK(tree_of(damaged.directory() + "/checkpoints") == before);
}

TEST_CASE("train: what a killed process left half written is removed") {
  const TinyRun left;
  left.trained({step(10)});
  const std::string partial = left.directory() + "/checkpoints/.partial-step-00000020";
  fs::create_directory(partial);
  std::ofstream(partial + "/model.safetensors") << "half";
  left.trained({step(15)});
  CHECK(!fs::exists(partial));
  CHECK(left.checkpoints() == std::vector<std::string>{"step-00000010", "step-00000015"});
}

TEST_CASE("train: checkpoint.keep is how many stay, and the one just saved is always among them") {
  const TinyRun run({"checkpoint.every=5", "checkpoint.keep=2"});
  run.trained();
  CHECK(run.checkpoints() == std::vector<std::string>{"step-00000055", "step-00000060"});

  // A damaged newer one does not count.
  const TinyRun damaged({"checkpoint.every=10"});
  damaged.trained({step(30)});
  flip_byte(damaged.checkpoint(30) + "/model.safetensors", 50'000);
  damaged.trained({step(22), "checkpoint.keep=1"});
  CHECK(fs::exists(damaged.checkpoint(22)));
  CHECK(!fs::exists(damaged.checkpoint(20)));
  const Finished again = damaged.train({step(23), "checkpoint.keep=1"});
  INFO(again.err);
  CHECK(again.exit_code == 0);
  CHECK(says(again, "going on from " + damaged.checkpoint(22)));
}

TEST_CASE("train: a finished run run again is finished and changes no checkpoint") {
  const TinyRun run;
  run.trained();
  const auto before = tree_of(run.directory() + "/checkpoints");
  const Finished again = run.train();
  CHECK(again.exit_code == 0);
  CHECK(says(again, "finished at step 60"));
  CHECK(tree_of(run.directory() + "/checkpoints") == before);
}

TEST_CASE("train: norms of the other family's kind are saved and resumed whole") {
  for (const Overrides& kind : {Overrides{"model.norm.kind=rmsnorm"},
                                Overrides{"model.family=llama", "model.norm.kind=layernorm"},
                                Overrides{"model.norm.placement=post"}}) {
    INFO(kind.back());
    const TinyRun whole(kind), parted(kind);
    whole.trained({step(20)});
    parted.trained({step(10)}).trained({step(20)});
    check_same(parted.checkpoint(20), whole.checkpoint(20));
    const Finished evaluated =
        normlab::test::run({program("evaluate"), whole.directory(), "--tokens", whole.recipe()});
    INFO(evaluated.err);
    CHECK(evaluated.exit_code == 0);
  }
}

TEST_CASE("train: model.from begins with the weights of another run, and at step 0") {
  const TinyRun first;
  first.trained({step(20)});
  // So small a learning rate moves no weight.
  const TinyRun second({"model={from: " + first.directory() + "}", "optimizer.learning_rate=1e-30",
                        "model.layers=null", "model.width=null", "model.heads=null",
                        "model.context=null", "model.family=null"});
  second.trained({step(1)});
  CHECK(content(second.checkpoint(1) + "/model.safetensors") ==
        content(first.checkpoint(20) + "/model.safetensors"));
  CHECK(content(second.checkpoint(1) + "/optimizer-00000.safetensors") !=
        content(first.checkpoint(20) + "/optimizer-00000.safetensors"));
}
