// Whole runs with device: cuda, on the emulated GPU.
#include <csignal>
#include <filesystem>

#include "catch.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

namespace {

Overrides emulated(const std::string& precision) {
  return {"run.device=cuda",     "run.precision=" + precision, "batch.tokens_per_step=64",
          "batch.micro_batch=1", "schedule.total_steps=12",    "schedule.warmup_steps=2",
          "evaluation.every=6",  "checkpoint.every=3",         "data.sequence_length=32"};
}

const Overrides llama = {"model.family=llama", "model.dropout=0", "model.heads=4",
                         "model.kv_heads=2"};

Overrides joined(Overrides one, const Overrides& other) {
  one.insert(one.end(), other.begin(), other.end());
  return one;
}

std::vector<double> numbers(const TinyRun& run, const std::string& name) {
  std::vector<double> found;
  for (const auto& row : run.metrics()) {
    if (row.contains(name) && !row.contains("discarded")) found.push_back(row[name]);
  }
  return found;
}

void check_near(const std::vector<double>& found, const std::vector<double>& wanted, double bound) {
  REQUIRE(found.size() == wanted.size());
  REQUIRE(!found.empty());
  for (size_t i = 0; i < found.size(); ++i) CHECK(found[i] == Approx(wanted[i]).epsilon(bound));
}

// The run on the emulated GPU and on the CPU have the same losses, but for rounding.
void check_trains_as_on_cpu(const Overrides& recipe, double bound) {
  const TinyRun cuda(recipe, "train_emulated");
  const TinyRun cpu(joined(recipe, {"run.device=cpu"}));
  cuda.trained();
  cpu.trained();
  check_near(numbers(cuda, "loss"), numbers(cpu, "loss"), bound);
  check_near(numbers(cuda, "validation_loss"), numbers(cpu, "validation_loss"), bound);
}

}  // namespace

TEST_CASE("train on the emulated GPU: both families have the CPU's losses in fp32") {
  check_trains_as_on_cpu(emulated("fp32"), 1e-5);
  check_trains_as_on_cpu(joined(emulated("fp32"), llama), 1e-5);
}

TEST_CASE("train on the emulated GPU: both families have the CPU's losses in bf16") {
  check_trains_as_on_cpu(emulated("bf16"), 1e-2);
  check_trains_as_on_cpu(joined(emulated("bf16"), llama), 1e-2);
}

TEST_CASE("train on the emulated GPU: in bf16 alone each level has the CPU's losses, and goes on") {
  for (const std::string level : {"weights", "gradients", "forward"}) {
    INFO(level);
    const Overrides recipe = joined(joined(emulated("pure_bf16"), llama),
                                    {"run.pure_bf16=" + level, "model.norm.placement=lns"});
    check_trains_as_on_cpu(recipe, 2e-2);
    const TinyRun whole(recipe, "train_emulated"), parted(recipe, "train_emulated");
    whole.trained();
    parted.trained({"schedule.stop_step=7"}).trained();
    CHECK(different_files(parted.checkpoint(12), whole.checkpoint(12)) ==
          std::vector<std::string>{});
  }
}

TEST_CASE("train on the emulated GPU: activations computed again give the same bytes") {
  for (const Overrides& family : {Overrides{}, llama}) {
    const Overrides recipe = joined(emulated("bf16"), family);
    const TinyRun kept(recipe, "train_emulated"), again(recipe, "train_emulated");
    kept.trained();
    again.trained({"schedule.stop_step=5", "batch.recompute=mlp"})
        .trained({"batch.recompute=block"});
    CHECK(different_files(again.checkpoint(12), kept.checkpoint(12)) == std::vector<std::string>{});
  }
}

TEST_CASE("train on the emulated GPU: a killed run ends in an undisturbed run's bytes") {
  const TinyRun whole(emulated("bf16"), "train_emulated");
  const TinyRun killed(emulated("bf16"), "train_emulated");
  whole.trained();
  Process process(killed.command());
  REQUIRE(process.wait_until([&] { return std::filesystem::exists(killed.checkpoint(3)); }));
  process.signal(SIGKILL);
  CHECK(process.wait().exit_code == 128 + SIGKILL);
  killed.trained();
  CHECK(different_files(killed.checkpoint(12), whole.checkpoint(12)) == std::vector<std::string>{});
}

TEST_CASE("evaluate on the emulated GPU: gives the run's last validation loss bit for bit") {
  const TemporaryFolder folder;
  const std::string text = folder.write("text.txt", story(200));
  const TinyRun run(joined(emulated("bf16"), {"schedule.stop_step=3", "data.grammar=null",
                                              "data.text=[" + text + "]"}),
                    "train_emulated");
  run.trained();
  const std::string shard = folder.path() + "/validation.bin";
  write_validation_shard(shard, text);
  const Finished found = normlab::test::run(
      {program("evaluate_emulated"), run.directory(), "--tokens", shard, "--json"});
  INFO(found.err);
  REQUIRE(found.exit_code == 0);
  CHECK(nlohmann::json::parse(found.out).at("loss") == numbers(run, "validation_loss").back());
}

TEST_CASE("evaluate on the emulated GPU: --device says where the model works") {
  const TinyRun run({"schedule.stop_step=3", "checkpoint.every=3"});
  run.trained();
  const std::string text = run.folder().write("text.txt", story(20));
  const auto loss = [&](const std::string& evaluate, const std::string& device) {
    const Finished found =
        normlab::test::run({program(evaluate), run.directory(), "--tokens", text, "--device",
                            device, "--precision", "fp32", "--json"});
    INFO(found.err);
    REQUIRE(found.exit_code == 0);
    return nlohmann::json::parse(found.out).at("loss").get<double>();
  };
  const double on_cpu = loss("evaluate", "auto");
  CHECK(loss("evaluate_emulated", "cpu") == on_cpu);
  const double on_gpu = loss("evaluate_emulated", "cuda");
  CHECK(on_gpu != on_cpu);  // another order of sums
  CHECK(on_gpu == Approx(on_cpu).epsilon(1e-5));
  CHECK(loss("evaluate_emulated", "auto") == on_gpu);
}

TEST_CASE("analyze depth on the emulated GPU: the CPU's numbers") {
  const TinyRun run({"schedule.stop_step=20"});
  run.trained();
  const std::string text = run.folder().write("a.txt", story(5));
  const auto depth = [&](const std::string& analyze, const std::string& device) {
    const Finished found =
        normlab::test::run({program(analyze), "depth", run.directory(), "--tokens", text,
                            "--device", device, "--projections", "2", "--json"});
    INFO(found.err);
    REQUIRE(found.exit_code == 0);
    return nlohmann::json::parse(found.out);
  };
  const auto on_cpu = depth("analyze", "cpu"), on_gpu = depth("analyze_emulated", "cuda");
  for (size_t layer = 0; layer < 2; ++layer) {
    const auto near = [&](const char* name, const nlohmann::json& gpu, const nlohmann::json& cpu) {
      INFO(name);
      CHECK(gpu.get<double>() == Approx(cpu.get<double>()).epsilon(1e-3));
    };
    for (const char* name : {"variance", "loss_without"}) {
      near(name, on_gpu.at(name)[layer], on_cpu.at(name)[layer]);
    }
    near("angle", on_gpu.at("angular_distance")[layer][0], on_cpu.at("angular_distance")[layer][0]);
    for (const char* name : {"token_mean", "whole"}) {
      near(name, on_gpu.at("jacobian").at(name)[layer], on_cpu.at("jacobian").at(name)[layer]);
    }
  }
}

TEST_CASE("generate on the emulated GPU: both families write the CPU's text") {
  for (const Overrides& family : {Overrides{}, llama}) {
    const TinyRun run(joined(family, {"schedule.total_steps=60"}));
    run.trained();
    const auto text = [&](const std::string& generate, const std::string& device) {
      // Longer than the context: the cache is filled and begun anew.
      const Finished found = normlab::test::run({program(generate), run.directory(), "--prompt",
                                                 "The ", "--tokens", "40", "--device", device,
                                                 "--precision", "fp32", "--temperature", "0"});
      INFO(found.err);
      REQUIRE(found.exit_code == 0);
      return found.out;
    };
    const std::string expected = text("generate", "cpu");
    CHECK(expected.size() > 10);
    CHECK(text("generate_emulated", "cuda") == expected);
    CHECK(text("generate_emulated", "auto") == expected);
  }
}
