// Several ranks train the model that one rank does, and go on from each other's checkpoints.
#include "tests/tools/ranks.h"

#include <cmath>
#include <filesystem>

#include "catch.h"
#include "engine/safetensors.h"

using namespace normlab;
using namespace normlab::test;

namespace {

// 13 sequences a step: no two of 2, 3 or 4 ranks have equal parts.
const Overrides odd = {"batch.tokens_per_step=416", "schedule.total_steps=20"};
const std::string removal =
    "norm_removal={mlp: {start: 3, gap: 2, momentum: 0.3}, attention_qk: {start: 6, gap: 1, "
    "momentum: 0.2}, attention_v: {start: 9, gap: 1}, final: {start: 14, momentum: 0.4}}";

Overrides with(Overrides base, const Overrides& more) {
  base.insert(base.end(), more.begin(), more.end());
  return base;
}

// Every number of the rows that count, but for those of a clock.
std::vector<nlohmann::json> history(const TinyRun& run) {
  std::vector<nlohmann::json> rows;
  for (nlohmann::json row : run.metrics()) {
    if (row.contains("discarded") || !row.contains("loss")) continue;
    row.erase("seconds");
    row.erase("tokens_per_second");
    rows.push_back(row);
  }
  return rows;
}

void check_close(const TinyRun& one, const TinyRun& other, double bound) {
  const auto left = history(one), right = history(other);
  REQUIRE(left.size() == right.size());
  REQUIRE(!left.empty());
  for (size_t i = 0; i < left.size(); ++i) {
    INFO("step " << left[i].at("step"));
    for (const char* name : {"loss", "grad_norm"}) {
      const double a = left[i].at(name), b = right[i].at(name);
      CHECK(std::fabs(a - b) <= bound * std::fabs(a));
    }
  }
}

std::string weights_of(const TinyRun& run, int64_t step) {
  return content(run.checkpoint(step) + "/model.safetensors");
}

std::string step(int64_t number) { return "schedule.stop_step=" + std::to_string(number); }

}  // namespace

TEST_CASE("ranks: 1, 2, 3 and 4 compute the same curve") {
  if (!can_run_ranks()) return;
  const Overrides removed = with(odd, {removal});
  const TinyRun alone(removed);
  alone.trained();
  for (const int ranks : {2, 3, 4}) {
    for (const std::string stage : {"0", "1"}) {
      INFO(ranks << " ranks, zero_stage " << stage);
      const TinyRun shared(with(removed, {"parallel.zero_stage=" + stage}));
      train_ranks(shared, ranks);
      // Other sums round otherwise, and Adam makes steps of its own of a gradient near 0.
      check_close(alone, shared, 1e-4);
      CHECK(!std::filesystem::exists(shared.directory() + "/ranks"));
    }
  }
}

TEST_CASE("ranks: 1, 2, 3 and 4 have the same bits with parallel.reproducible") {
  if (!can_run_ranks()) return;
  const Overrides exact = {"parallel.reproducible=true", "parallel.shards=5"};
  for (const Overrides& more : {Overrides{removal}, Overrides{"run.precision=bf16"},
                                Overrides{"model.family=llama", "model.norm.placement=lns"}}) {
    INFO(more.front());
    const Overrides all = with(with(odd, exact), more);
    const TinyRun alone(all);
    alone.trained();
    for (const int ranks : {2, 3, 4}) {
      for (const std::string stage : {"0", "1"}) {
        INFO(ranks << " ranks, zero_stage " << stage);
        const TinyRun shared(with(all, {"parallel.zero_stage=" + stage}));
        train_ranks(shared, ranks);
        CHECK(weights_of(shared, 20) == weights_of(alone, 20));
        CHECK(history(shared) == history(alone));
      }
    }
  }
}

TEST_CASE("ranks: a checkpoint of 4 goes on with 1, 3 and 2, in the bits of one rank's run") {
  if (!can_run_ranks()) return;
  for (const std::string precision : {"fp32", "bf16"}) {
    INFO(precision);
    const Overrides exact = with(odd, {"parallel.reproducible=true", "parallel.shards=4", removal,
                                       "run.precision=" + precision});
    const TinyRun whole(exact), parted(exact);
    whole.trained();
    train_ranks(parted, 4, {step(5)});
    CHECK(content(parted.checkpoint(5) + "/optimizer-00003.safetensors").size() > 0);
    parted.trained({step(8)});
    train_ranks(parted, 3, {step(12)});
    train_ranks(parted, 2, {step(16)});
    parted.trained();
    CHECK(different_files(parted.checkpoint(20), whole.checkpoint(20)) ==
          std::vector<std::string>{});
  }
}

TEST_CASE("ranks: a checkpoint that lacks one rank's moments is passed over") {
  if (!can_run_ranks()) return;
  const TinyRun run(odd);
  train_ranks(run, 3, {"checkpoint.every=10"});
  std::filesystem::remove(run.checkpoint(20) + "/optimizer-00001.safetensors");
  const Finished again = normlab::test::run(ranks_command(run, 2));
  INFO(again.err);
  CHECK(again.exit_code == 0);
  CHECK(again.err.find("optimizer-00001.safetensors: is missing") != std::string::npos);
  CHECK(again.err.find("going on from " + run.checkpoint(10)) != std::string::npos);
}

TEST_CASE("ranks: what is not finite on one skips the step on all") {
  if (!can_run_ranks()) return;
  // One sequence of the text has the letter Q, whose embedding is no number.
  const Overrides text = with(
      odd, {"data.grammar=null", "model.family=llama", "model.dropout=0", "schedule.warmup_steps=0",
            "parallel.reproducible=true", "parallel.shards=4", "data.validation_fraction=0.05"});
  const auto make = [&](const TinyRun& run) {
    const std::string file =
        run.folder().write("story.txt", story(40) + "The Queen sleeps.\n" + story(30));
    return "data.text=[" + file + "]";
  };
  const TinyRun alone(text), shared(text), first(text);
  first.trained({make(first), step(1)});
  const std::string from = first.folder().path() + "/from";
  std::filesystem::copy(first.checkpoint(1), from);
  {
    const SafetensorsFile weights(from + "/model.safetensors");
    const auto bytes = weights.bytes("model.embed_tokens.weight");
    const std::string all = content(from + "/model.safetensors");
    const int64_t width = weights.tensors().at("model.embed_tokens.weight").shape.at(1);
    const size_t place =
        all.find(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size())) +
        static_cast<size_t>('Q' * width) * sizeof(float);
    const float nothing = std::nanf("");
    std::fstream file(from + "/model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(place));
    file.write(reinterpret_cast<const char*>(&nothing), sizeof(nothing));
  }
  const Overrides begun = {"model={from: " + from + "}", "model.layers=null",  "model.width=null",
                           "model.heads=null",           "model.context=null", "model.family=null"};
  alone.trained(with(begun, {make(alone)}));
  train_ranks(shared, 3, with(begun, {make(shared)}));
  int64_t skipped = 0;
  for (const auto& row : shared.metrics()) {
    skipped += row.contains("event") && row.at("event").at("kind") == "skipped_step" ? 1 : 0;
  }
  CHECK(skipped > 0);
  CHECK(weights_of(shared, 20) == weights_of(alone, 20));
  CHECK(history(shared) == history(alone));
}
