// Whole runs in bf16 on the CPU.
#include <cmath>
#include <csignal>

#include "catch.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

namespace {

constexpr int kStopped = 75;

Overrides in_bf16(const Overrides& more = {}) {
  Overrides all = {"run.precision=bf16", "schedule.total_steps=30"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::string weights_of(const TinyRun& run, int64_t step) {
  return content(run.checkpoint(step) + "/model.safetensors");
}

double last_loss(const TinyRun& run) { return run.metrics().back().at("loss").get<double>(); }

void check_same_end(const TinyRun& one, const TinyRun& other) {
  CHECK(different_files(one.checkpoint(30), other.checkpoint(30)) == std::vector<std::string>{});
}

// The loss that evaluate prints, and its own words of failure.
double evaluated(const TinyRun& run, const std::string& shard,
                 const std::vector<std::string>& more = {}) {
  std::vector<std::string> command = {program("evaluate"), run.directory(), "--tokens", shard,
                                      "--json"};
  command.insert(command.end(), more.begin(), more.end());
  const Finished finished = normlab::test::run(command);
  INFO(finished.err);
  REQUIRE(finished.exit_code == 0);
  return nlohmann::json::parse(finished.out).at("loss");
}

}  // namespace

TEST_CASE("train in bf16: threads, a stop and a kill leave the undisturbed run's bytes") {
  for (const std::string family : {"gpt2", "llama"}) {
    INFO(family);
    const Overrides base = in_bf16({"model.family=" + family});
    const TinyRun whole(base), threaded(base), parted(base), killed(base), stopped(base);
    whole.trained();
    threaded.trained({"run.threads=2"});
    check_same_end(threaded, whole);
    // Past the last checkpoint, at 10.
    parted.trained({"schedule.stop_step=13"}).trained();
    check_same_end(parted, whole);

    const auto disturbed = [](const TinyRun& run, int signal) {
      Process process(run.command());
      const std::string metrics = run.directory() + "/metrics.jsonl";
      REQUIRE(process.wait_until([&] { return count_lines(content(metrics)) >= 14; }));
      process.signal(signal);
      return process.wait().exit_code;
    };
    CHECK(disturbed(killed, SIGKILL) == 128 + SIGKILL);
    check_same_end(killed.trained(), whole);
    CHECK(disturbed(stopped, SIGTERM) == kStopped);
    check_same_end(stopped.trained(), whole);
  }
}

TEST_CASE("train in bf16: another run than in fp32, but nearly") {
  const TinyRun narrow(in_bf16()), wide({"schedule.total_steps=30"});
  const Finished finished = narrow.train();
  REQUIRE(finished.exit_code == 0);
  CHECK(finished.err.find("precision: bf16") != std::string::npos);
  wide.trained();
  CHECK(last_loss(narrow) != last_loss(wide));
  CHECK(last_loss(narrow) == Approx(last_loss(wide)).epsilon(1e-2));
  // The masters are not rounded: the weights of the file are no bf16 numbers.
  CHECK(weights_of(narrow, 30).size() == weights_of(wide, 30).size());
}

TEST_CASE("train in bf16: shards of a reproducible run are summed in full") {
  const Overrides shards =
      in_bf16({"parallel.reproducible=true", "parallel.shards=4", "schedule.stop_step=1"});
  const TinyRun four(shards), again(shards), one(in_bf16({"schedule.stop_step=1"}));
  four.trained();
  again.trained();
  one.trained();
  CHECK(weights_of(four, 1) == weights_of(again, 1));
  const auto norm = [](const TinyRun& run) { return run.metrics().back().at("grad_norm"); };
  // Sums rounded to bf16 would differ by 1e-3.
  CHECK(norm(four).get<double>() == Approx(norm(one).get<double>()).epsilon(1e-5));
}

TEST_CASE("evaluate: gives the last validation loss of a run in bf16 bit for bit") {
  for (const std::string family : {"gpt2", "llama"}) {
    INFO(family);
    const TinyRun run(in_bf16({"data.grammar=null", "model.family=" + family}));
    const std::string text = run.folder().write("a.txt", story(400));
    run.trained({"data.text=[" + text + "]"});
    const std::string shard = run.folder().path() + "/validation.bin";
    write_validation_shard(shard, text);
    const double kept = run.metrics().back().at("validation_loss");
    CHECK(evaluated(run, shard) == kept);
    CHECK(evaluated(run, shard, {"--precision", "bf16", "--threads", "2"}) == kept);
    // The masters in full: another number, but nearly.
    const double full = evaluated(run, shard, {"--precision", "fp32"});
    CHECK(full != kept);
    CHECK(full == Approx(kept).epsilon(1e-2));
  }
}

TEST_CASE("train: model.from takes all the bits of a run in another precision") {
  const Overrides begun = {"optimizer.learning_rate=1e-30",
                           "model.layers=null",
                           "model.width=null",
                           "model.heads=null",
                           "model.context=null",
                           "model.family=null"};
  const auto from = [&](const TinyRun& run, const std::string& precision) {
    Overrides all = begun;
    all.push_back("model={from: " + run.directory() + "}");
    all.push_back("run.precision=" + precision);
    return all;
  };
  const TinyRun narrow(in_bf16()), wide({"schedule.total_steps=30"});
  narrow.trained();
  wide.trained();
  // So small a learning rate moves no weight.
  const TinyRun wide_next(from(narrow, "fp32")), narrow_next(from(wide, "bf16"));
  wide_next.trained({"schedule.stop_step=1"});
  narrow_next.trained({"schedule.stop_step=1"});
  CHECK(weights_of(wide_next, 1) == weights_of(narrow, 30));
  CHECK(weights_of(narrow_next, 1) == weights_of(wide, 30));
}

TEST_CASE("train: a run's precision is part of what it is") {
  const TinyRun run(in_bf16());
  run.trained({"schedule.stop_step=2"});
  const Finished other = run.train({"run.precision=fp32"});
  INFO(other.err);
  CHECK(other.exit_code == 2);
  CHECK(other.err.find("run.precision") != std::string::npos);
}

TEST_CASE("generate: --precision says in what the model works") {
  const TinyRun run(in_bf16());
  run.trained();
  const auto finished = [&](const std::string& precision) {
    return normlab::test::run({program("generate"), run.directory(), "--prompt", "The ", "--tokens",
                               "20", "--temperature", "0", "--precision", precision});
  };
  for (const std::string precision : {"auto", "fp32", "bf16"}) {
    INFO(precision);
    CHECK(finished(precision).exit_code == 0);
    CHECK(finished(precision).out.starts_with("The "));
  }
  CHECK(finished("half").exit_code == 2);
}

TEST_CASE("train --dry-run: says the precision and counts its masters") {
  const TinyRun run(in_bf16());
  CHECK(run.train({"--dry-run"}).out.find("precision:        bf16\n") != std::string::npos);
  const auto plan = nlohmann::json::parse(run.train({"--dry-run", "--json"}).out);
  CHECK(plan.at("precision") == "bf16");
  const auto& memory = plan.at("memory_bytes");
  CHECK(memory.at("optimizer") == 6 * memory.at("weights").get<int64_t>());
  CHECK(memory.at("gradients") == 2 * memory.at("weights").get<int64_t>());
}

TEST_CASE(
    "train in pure bf16: each level is a run of its own, the same on any threads and resumed") {
  std::vector<std::string> weights;
  for (const std::string level : {"weights", "gradients", "forward"}) {
    INFO(level);
    const Overrides base = {"run.precision=pure_bf16", "run.pure_bf16=" + level,
                            "model.family=llama", "model.norm.placement=lns",
                            "schedule.total_steps=30"};
    const TinyRun whole(base), threaded(base), parted(base);
    whole.trained();
    threaded.trained({"run.threads=2"});
    check_same_end(threaded, whole);
    parted.trained({"schedule.stop_step=13"}).trained();
    check_same_end(parted, whole);
    weights.push_back(weights_of(whole, 30));
    CHECK(whole.metrics().back().at("validation_loss") < whole.metrics()[9].at("validation_loss"));
  }
  CHECK(weights[0] != weights[1]);
  CHECK(weights[1] != weights[2]);
}

TEST_CASE("train in pure bf16: evaluate repeats its loss, and the log names the level") {
  const TinyRun run({"data.grammar=null", "model.family=llama", "schedule.total_steps=30"});
  const std::string text = run.folder().write("a.txt", story(400));
  const Finished finished = run.train({"data.text=[" + text + "]", "run.precision=pure_bf16"});
  INFO(finished.err);
  REQUIRE(finished.exit_code == 0);
  CHECK(finished.err.find("precision: pure_bf16_forward") != std::string::npos);
  const std::string shard = run.folder().path() + "/validation.bin";
  write_validation_shard(shard, text);
  const double kept = run.metrics().back().at("validation_loss");
  CHECK(evaluated(run, shard) == kept);
  CHECK(evaluated(run, shard, {"--precision", "bf16"}) != kept);
}
