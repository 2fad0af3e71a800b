// What may not move a bit of a run, and what must move some.
#include <cmath>

#include "catch.h"
#include "engine/safetensors.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

namespace {

const std::string weights_file = "/model.safetensors";
// Large enough for products and rows to be cut among threads.
const Overrides wider = {"model.width=96",
                         "model.heads=4",
                         "data.sequence_length=64",
                         "model.context=64",
                         "batch.tokens_per_step=1024",
                         "schedule.total_steps=6"};

Overrides with(Overrides base, const Overrides& more) {
  base.insert(base.end(), more.begin(), more.end());
  return base;
}

std::string weights_after(const TinyRun& run, int64_t step) {
  return content(run.checkpoint(step) + weights_file);
}

// Largest difference of weights, as a share of the largest weight.
double distance(const TinyRun& one, const TinyRun& other, int64_t step) {
  const SafetensorsFile left(one.checkpoint(step) + weights_file);
  const SafetensorsFile right(other.checkpoint(step) + weights_file);
  double difference = 0, largest = 0;
  for (const auto& [name, tensor] : left.tensors()) {
    const std::vector<float> a = left.read(name), b = right.read(name);
    for (size_t i = 0; i < a.size(); ++i) {
      difference = std::max(difference, std::fabs(double(a[i]) - double(b[i])));
      largest = std::max(largest, std::fabs(double(a[i])));
    }
  }
  return difference / largest;
}

}  // namespace

TEST_CASE("train: one thread and two and three give the same bytes") {
  for (const std::string family : {"gpt2", "llama"}) {
    INFO(family);
    const Overrides base = with(wider, {"model.family=" + family});
    const TinyRun one(base), two(base), three(base);
    one.trained({"run.threads=1"});
    two.trained({"run.threads=2"});
    three.trained({"run.threads=3"});
    CHECK(weights_after(one, 6) == weights_after(two, 6));
    CHECK(weights_after(one, 6) == weights_after(three, 6));
  }
}

TEST_CASE("train: another seed gives other weights") {
  const TinyRun one, other({"run.seed=8"});
  one.trained({"schedule.stop_step=1"});
  other.trained({"schedule.stop_step=1"});
  CHECK(weights_after(one, 1) != weights_after(other, 1));
}

TEST_CASE("train: a reproducible run repeats its bits and its micro-batch moves only rounding") {
  const Overrides shards = {"parallel.reproducible=true", "parallel.shards=4",
                            "schedule.total_steps=8", "model.dropout=0.1"};
  const TinyRun first(shards), again(shards), small(with(shards, {"batch.micro_batch=1"}));
  first.trained({"batch.micro_batch=2"});
  again.trained({"batch.micro_batch=2"});
  small.trained();
  CHECK(weights_after(first, 8) == weights_after(again, 8));
  // Adam turns rounding of a gradient near 0 into steps of its own; dropout counted by micro-batch
  // would be off by thousands of times more.
  CHECK(distance(first, small, 8) < 1e-3);
  // And shards other than ranks do not change what is computed.
  const TinyRun whole(with(shards, {"parallel.reproducible=false"}));
  whole.trained();
  CHECK(distance(first, whole, 8) < 1e-3);
}

TEST_CASE("train: with ragged targets token and micro-batch averages differ, with full ones not") {
  const Overrides few = {"schedule.stop_step=3"};
  for (const bool ragged : {false, true}) {
    INFO((ragged ? "padded" : "concatenated"));
    // Documents of at least 33 tokens fill their rows: longer rows leave some ragged.
    const Overrides base = ragged ? with(few, {"data.packing=padded", "data.sequence_length=512",
                                               "model.context=512", "batch.tokens_per_step=4096"})
                                  : few;
    const TinyRun token(with(base, {"optimizer.loss_average=token"}));
    const TinyRun micro(with(base, {"optimizer.loss_average=micro_batch"}));
    token.trained();
    micro.trained();
    const double token_loss = token.metrics().front().at("loss");
    const double micro_loss = micro.metrics().front().at("loss");
    CHECK(token_loss == Approx(micro_loss).epsilon(1e-2));
    if (ragged) {
      CHECK(distance(token, micro, 3) > 1e-4);
      CHECK(std::fabs(token_loss / micro_loss - 1) > 1e-7);
    } else {
      CHECK(token_loss == Approx(micro_loss).epsilon(1e-7));
    }
  }
}

TEST_CASE("evaluate: repeats a run of padded, masked rows shorter than its context bit for bit") {
  const Overrides rows = {"data.grammar=null",         "schedule.stop_step=5",
                          "model.context=96",          "data.sequence_length=64",
                          "batch.tokens_per_step=512", "data.packing=padded",
                          "data.mask_eot_targets=true"};
  const TinyRun run(rows);
  std::string train, validation;
  std::vector<std::string> command = {program("evaluate"), run.directory(), "--json", "--tokens"};
  for (int i = 0; i < 12; ++i) {
    const std::string name = std::to_string(i) + ".txt";
    train += (i == 0 ? "" : ", ") + run.folder().write("t" + name, story(1 + i % 5));
    command.push_back(run.folder().write("v" + name, story(1 + (i + 2) % 4)));
    validation += (i == 0 ? "" : ", ") + command.back();
  }
  const Finished trained =
      run.train({"data.text=[" + train + "]", "data.validation=[" + validation + "]"});
  INFO(trained.err);
  REQUIRE(trained.exit_code == 0);
  const double kept = run.metrics().back().at("validation_loss");
  const auto loss = [&](const std::vector<std::string>& more) {
    const Finished finished = normlab::test::run(with(command, more));
    INFO(finished.err);
    REQUIRE(finished.exit_code == 0);
    return nlohmann::json::parse(finished.out).at("loss").get<double>();
  };
  CHECK(loss({}) == kept);
  CHECK(loss({"--packing", "padded", "--sequence-length", "64", "--mask-eot-targets"}) == kept);
  // And what the command line says goes before what the run says.
  CHECK(loss({"--packing", "concatenated"}) != kept);
  CHECK(loss({"--sequence-length", "96"}) != kept);
  CHECK(loss({"--no-mask-eot-targets"}) != kept);
}

TEST_CASE("evaluate: gives a run's last validation loss bit for bit") {
  for (const std::string family : {"gpt2", "llama"}) {
    INFO(family);
    const TinyRun run({"data.grammar=null", "schedule.stop_step=5", "model.family=" + family});
    const std::string text = run.folder().write("a.txt", story(400));
    REQUIRE(run.train({"data.text=[" + text + "]", "evaluation.reference_batch=3"}).exit_code == 0);
    const std::string shard = run.folder().path() + "/validation.bin";
    write_validation_shard(shard, text);
    const Finished finished =
        normlab::test::run({program("evaluate"), run.directory(), "--tokens", shard, "--json",
                            "--threads", "2", "--reference-batch", "3"});
    INFO(finished.err);
    REQUIRE(finished.exit_code == 0);
    const nlohmann::json found = nlohmann::json::parse(finished.out);
    CHECK(found.at("loss") == run.metrics().back().at("validation_loss"));
    CHECK(found.at("ppl_cod") == run.metrics().back().at("ppl_cod"));
    CHECK(found.at("ppl_cod") < found.at("perplexity"));
  }
}
