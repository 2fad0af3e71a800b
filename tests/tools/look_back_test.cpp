// train --verify and train --replay: what they find in runs that are sound, and in others.
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "catch.h"
#include "engine/hash.h"
#include "engine/safetensors.h"
#include "tests/tools/ranks.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

namespace {

constexpr int kDone = 0, kFailed = 1, kInput = 2, kDiverged = 5;

Finished look_back(const std::vector<std::string>& words) {
  std::vector<std::string> command = {program("train")};
  command.insert(command.end(), words.begin(), words.end());
  return run(command);
}

Finished verified(const TinyRun& run) { return look_back({"--verify", run.directory(), "--json"}); }

bool says(const Finished& finished, const std::string& text) {
  return finished.err.find(text) != std::string::npos;
}

// Writes a number into a tensor of a checkpoint, whose checksums are right again.
void change_number(const std::string& checkpoint, const std::string& file,
                   const std::string& tensor, float number) {
  const std::string path = checkpoint + "/" + file;
  std::string bytes = content(path);
  {
    const SafetensorsFile read(path);
    const auto part = read.bytes(tensor);
    const size_t place =
        bytes.find(std::string_view(reinterpret_cast<const char*>(part.data()), part.size()));
    bytes.replace(place, sizeof(number), reinterpret_cast<const char*>(&number), sizeof(number));
  }
  std::ofstream(path, std::ios::binary) << bytes;
  edit_state(checkpoint, [&](nlohmann::ordered_json& state) {
    state["checksums"][file] = hexadecimal(hash_file(path));
  });
}

// Of the row of a step.
void change_loss(const TinyRun& run, int64_t step) {
  std::string text;
  for (nlohmann::json row : run.metrics()) {
    if (row.at("step") == step && row.contains("loss")) {
      row["loss"] = std::nextafter(row["loss"].get<double>(), 0.0);
    }
    text += row.dump() + "\n";
  }
  std::ofstream(run.directory() + "/metrics.jsonl") << text;
}

// Weights of a run that has been saved at step 1, with a number that is none.
std::string spoilt_weights(const TinyRun& run) {
  run.trained({"schedule.stop_step=1"});
  change_number(run.checkpoint(1), "model.safetensors", "transformer.h.1.mlp.c_fc.weight",
                std::nanf(""));
  return run.checkpoint(1);
}

Overrides begun_with(const std::string& weights) {
  return {"model={from: " + weights + "}",
          "model.layers=null",
          "model.width=null",
          "model.heads=null",
          "model.context=null",
          "model.family=null"};
}

}  // namespace

TEST_CASE("verify: runs of every kind are what their steps make them, and are left as they are") {
  const std::vector<Overrides> kinds = {
      {},
      {"checkpoint.keep=1"},
      {"run.precision=bf16"},
      {"model.family=llama", "model.norm.placement=lns", "parallel.reproducible=true"},
      {"norm_removal={mlp: {start: 6, gap: 3, momentum: 0.3}, final: {start: 52, momentum: 0.4}, "
       "auxiliary_loss_weight: 0.1}"},
      {"optimizer.learning_rate=0.03", "diagnostics.every=7"}};
  for (const Overrides& kind : kinds) {
    INFO((kind.empty() ? "as it is" : kind.front()));
    const TinyRun run(kind);
    run.trained();
    const auto before = tree_of(run.directory());
    const Finished finished = verified(run);
    INFO(finished.err);
    CHECK(finished.exit_code == kDone);
    const auto found = nlohmann::json::parse(finished.out);
    CHECK(found.at("verified") == true);
    CHECK(found.at("to_step") == 60);
    CHECK(found.at("from_step") == (run.checkpoints().size() == 1 ? 0 : 50));
    CHECK(tree_of(run.directory()) == before);
  }
}

TEST_CASE("verify: a run that began with the weights of another") {
  const TinyRun first;
  first.trained({"schedule.stop_step=10"});
  const TinyRun second(begun_with(first.checkpoint(10)));
  second.trained({"schedule.stop_step=20"});
  CHECK(verified(second).exit_code == kDone);
  // From its one checkpoint on they are not asked for any more; before it they are.
  std::filesystem::remove_all(first.directory());
  CHECK(verified(second).exit_code == kDone);
  std::filesystem::remove_all(second.checkpoint(10));
  const Finished finished = verified(second);
  CHECK(finished.exit_code == kInput);
  CHECK(says(finished, first.directory()));
}

TEST_CASE("verify: names the file, the step, the tensor that is not what it was") {
  const TinyRun run;
  run.trained();
  SECTION("a byte of an older checkpoint") {
    flip_byte(run.checkpoint(40) + "/model.safetensors", 5000);
    const Finished finished = verified(run);
    INFO(finished.err);
    CHECK(finished.exit_code == kFailed);
    CHECK(says(finished, run.checkpoint(40) + "/model.safetensors: differs from"));
    const auto found = nlohmann::json::parse(finished.out);
    CHECK(found.at("different_step").is_null());
    CHECK(found.at("different_tensor").is_null());
    CHECK(found.at("checkpoints").at(2).at("damage").is_string());
  }
  SECTION("a weight") {
    change_number(run.checkpoint(60), "model.safetensors", "transformer.h.1.mlp.c_fc.weight",
                  0.25F);
    const Finished finished = verified(run);
    INFO(finished.err);
    CHECK(finished.exit_code == kFailed);
    CHECK(says(finished, "step-00000060, first in layers.1.mlp.in.weight"));
  }
  SECTION("a moment") {
    change_number(run.checkpoint(60), "optimizer-00000.safetensors", "second_moment", 0.25F);
    const Finished finished = verified(run);
    INFO(finished.err);
    CHECK(finished.exit_code == kFailed);
    CHECK(says(finished, "first in the second moment of embedding.token"));
  }
  SECTION("the weight that the last steps began with") {
    change_number(run.checkpoint(50), "model.safetensors", "transformer.h.1.mlp.c_fc.weight",
                  0.25F);
    const Finished finished = verified(run);
    INFO(finished.err);
    CHECK(finished.exit_code == kFailed);
    CHECK(says(finished, "DIFFERENT: step 51: the loss was "));
    CHECK(says(finished, "DIFFERENT: step-00000060, first in "));
  }
  SECTION("the last bit of a loss") {
    change_loss(run, 57);
    const Finished finished = verified(run);
    INFO(finished.err);
    CHECK(finished.exit_code == kFailed);
    CHECK(says(finished, "DIFFERENT: step 57: the loss was "));
    CHECK(says(finished, "step-00000060: the same weights"));
  }
  SECTION("the place in the data") {
    edit_state(run.checkpoint(60),
               [](nlohmann::ordered_json& state) { state["data_position"] = 481; });
    const Finished finished = verified(run);
    INFO(finished.err);
    CHECK(finished.exit_code == kFailed);
    CHECK(says(finished, "first in the place in the data"));
  }
}

TEST_CASE("verify: what is no run, has no checkpoint or is in use is told from one that is wrong") {
  const TinyRun run({"schedule.total_steps=100000", "checkpoint.every=1"});
  CHECK(verified(run).exit_code == kInput);
  Process process(run.command());
  REQUIRE(process.wait_until([&] { return !run.checkpoints().empty(); }));
  const Finished in_use = verified(run);
  CHECK(in_use.exit_code == kInput);
  CHECK(says(in_use, "in use by another process"));
  process.signal(SIGTERM);
  CHECK(process.wait().exit_code == 75);
  CHECK(verified(run).exit_code == kDone);
  const Finished other = look_back({"--verify", run.directory(), "optimizer.learning_rate=0.5"});
  CHECK(other.exit_code == kInput);
  CHECK(says(other, "another configuration"));
  std::filesystem::remove_all(run.directory() + "/checkpoints");
  const Finished none = verified(run);
  CHECK(none.exit_code == kInput);
  CHECK(says(none, "no sound checkpoint"));
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"--verify", run.directory(), "--dry-run"},
        {"--replay", "x", run.directory()},
        {"--replay", "0", run.directory()},
        {"--replay", "100001", run.directory()},
        {"--replay", "1"},
        {}}) {
    const Finished finished = look_back(words);
    INFO(finished.err);
    CHECK(finished.exit_code == kInput);
  }
}

TEST_CASE("verify: a run of two ranks has its bits with two") {
  if (!can_run_ranks()) return;
  const TinyRun run;
  train_ranks(run, 2, {"schedule.stop_step=20"});
  std::vector<std::string> command = launcher(2);
  command.insert(command.end(), {program("train"), "--verify", run.directory()});
  const Finished two = normlab::test::run(command);
  INFO(two.err);
  CHECK(two.exit_code == kDone);
  CHECK(says(two, ": verified"));
  const Finished one = verified(run);
  INFO(one.err);
  CHECK(says(one, "is of 2 ranks, this job of 1"));
  flip_byte(run.checkpoint(20) + "/model.safetensors", 5000);
  CHECK(normlab::test::run(command).exit_code == kFailed);
  const TinyRun reproducible({"parallel.reproducible=true"});
  train_ranks(reproducible, 2, {"schedule.stop_step=20"});
  CHECK(verified(reproducible).exit_code == kDone);
}

TEST_CASE("replay: a step of numbers that are finite") {
  const TinyRun run;
  run.trained();
  for (const int64_t step : {60, 51, 50, 3}) {
    const Finished finished =
        look_back({"--replay", std::to_string(step), run.directory(), "--json"});
    INFO(finished.err);
    CHECK(finished.exit_code == kDone);
    const auto found = nlohmann::json::parse(finished.out);
    CHECK(found.at("finite") == true);
    CHECK(found.at("finding").is_null());
    for (const auto& row : run.metrics()) {
      if (row.at("step") != step || !row.contains("loss")) continue;
      CHECK(row.at("loss") == found.at("loss"));
      CHECK(row.at("grad_norm") == found.at("grad_norm"));
    }
    CHECK(!says(finished, "not as it was recorded"));
  }
  change_loss(run, 57);
  CHECK(says(look_back({"--replay", "59", run.directory()}), "not as it was recorded: step 57"));
  CHECK(says(look_back({"--replay", "57", run.directory()}), "not as it was recorded: step 57"));
}

TEST_CASE("replay: a weight that is no number is named by the run, and by its verb") {
  const TinyRun first;
  const TinyRun run(begun_with(spoilt_weights(first)));
  const Finished trained = run.train({"guard.nonfinite_steps=3"});
  INFO(trained.err);
  CHECK(trained.exit_code == kDiverged);
  CHECK(says(trained,
             "step 1 skipped: loss nan, gradient norm nan (1 in a row); first not finite: "
             "the weight layers.1.mlp.in.weight"));
  CHECK(says(trained, "train --replay 1 " + run.directory()));
  const Finished replayed = look_back({"--replay", "1", run.directory()});
  INFO(replayed.err);
  CHECK(replayed.exit_code == kDone);
  CHECK(says(replayed,
             "first not finite: linear_forward, with layers.1.mlp.in.weight, wrote nan "
             "at row 0, column 0 of (128,128)"));
  CHECK(says(replayed, "of sequence 0 of the step (number "));
  CHECK(says(replayed, "), token 0"));
}

TEST_CASE("replay: a learning rate that is too high") {
  const TinyRun run({"optimizer.learning_rate=1e30", "optimizer.weight_decay=0",
                     "checkpoint.every=1", "guard.nonfinite_steps=2"});
  const Finished trained = run.train();
  INFO(trained.err);
  REQUIRE(trained.exit_code == kDiverged);
  const int64_t step = run.last_step();
  CHECK(says(trained, "first not finite: the "));
  const Finished replayed =
      look_back({"--replay", std::to_string(step), run.directory(), "--json"});
  INFO(replayed.err);
  CHECK(replayed.exit_code == kDone);
  const auto found = nlohmann::json::parse(replayed.out);
  CHECK(found.at("finite") == false);
  CHECK(found.at("finding").get<std::string>().find(", wrote ") != std::string::npos);
  const Finished beyond = look_back({"--replay", std::to_string(step + 1), run.directory()});
  CHECK(beyond.exit_code == kDiverged);
  CHECK(says(beyond, "--replay " + std::to_string(step) + " says why"));
}
