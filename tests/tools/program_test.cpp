// Programs as a user meets them: help, version, plans, evaluate and generate.
#include <cmath>
#include <filesystem>
#include <iterator>
#include <sstream>

#include "catch.h"
#include "data/token_shards.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

namespace {

constexpr int64_t kMebibyte = int64_t{1} << 20;

// The plan of `train --dry-run --json`.
nlohmann::json plan_of(const TinyRun& run, const Overrides& overrides = {}) {
  Overrides all = {"--dry-run", "--json"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  const Finished finished = run.train(all);
  if (finished.exit_code != 0) throw Error("no plan: " + finished.err);
  return nlohmann::json::parse(finished.out);
}

Finished generate(const TinyRun& run, const std::vector<std::string>& more) {
  std::vector<std::string> command = {program("generate"), run.directory()};
  command.insert(command.end(), more.begin(), more.end());
  return normlab::test::run(command);
}

Finished evaluate(const std::vector<std::string>& words) {
  std::vector<std::string> command = {program("evaluate")};
  command.insert(command.end(), words.begin(), words.end());
  return normlab::test::run(command);
}

}  // namespace

TEST_CASE("programs: --help shows an example and --version what was built") {
  for (const std::string name : {"train", "evaluate", "generate", "analyze"}) {
    INFO(name);
    const Finished help = normlab::test::run({program(name), "--help"});
    CHECK(help.exit_code == 0);
    CHECK(help.out.find("Example: " + name + " ") != std::string::npos);
    const Finished version = normlab::test::run({program(name), "--version"});
    CHECK(version.exit_code == 0);
    CHECK(version.out.starts_with(name + " of normlab "));
    for (const char* part : {"compiler: ", "CPU: ", "CUDA: ", "NCCL"}) {
      CHECK(version.out.find(part) != std::string::npos);
    }
  }
}

TEST_CASE("train --dry-run: prints the plan and makes nothing") {
  const TinyRun run;
  const Finished finished = run.train({"--dry-run"});
  INFO(finished.out);
  CHECK(finished.exit_code == 0);
  CHECK(finished.out.find("parameters:       34,720") != std::string::npos);
  CHECK(finished.out.find("documents: 40") != std::string::npos);
  CHECK(finished.out.find("FLOPs per token:") != std::string::npos);
  CHECK(finished.out.find("norm removal:     none\n") != std::string::npos);
  CHECK(!std::filesystem::exists(run.directory()));
}

TEST_CASE("train --dry-run --json: the contract's keys, and a total that is the sum") {
  const TinyRun run;
  const auto plan = plan_of(run);
  INFO(plan.dump(1));
  // V·C + T·C + layers·(12·C² + 13·C) + 2·C.
  CHECK(plan.at("parameters") == 257 * 32 + 32 * 32 + 2 * (12 * 32 * 32 + 13 * 32) + 2 * 32);
  CHECK(plan.at("tokens_per_step") == 256);
  CHECK(plan.at("flops_per_token").is_number());
  CHECK(plan.at("schedule").is_array());
  const auto& config = plan.at("config");
  REQUIRE(config.is_object());
  CHECK(config.at("model").at("layers") == 2);
  CHECK(config.at("model").at("family") == "gpt2");
  CHECK(config.at("model").at("norm").at("epsilon") == 1e-5);
  CHECK(config.at("run").at("directory") == run.directory());
  CHECK(config.at("optimizer").at("betas") == std::vector<double>{0.9, 0.999});
  CHECK(config.at("parallel").at("reproducible") == false);
  CHECK(config.at("data").at("grammar").at("documents") == 40);
  const auto& memory = plan.at("memory_bytes");
  int64_t sum = 0;
  for (const char* key : {"weights", "gradients", "optimizer", "activations", "workspace"}) {
    CHECK(memory.at(key).get<int64_t>() > 0);
    sum += memory.at(key).get<int64_t>();
  }
  CHECK(memory.at("total") == sum);
  CHECK(memory.at("optimizer").get<int64_t>() == 2 * memory.at("weights").get<int64_t>());
}

TEST_CASE("train --dry-run: a run of published size is planned in a moment and little memory") {
  struct Size {
    std::string family, name;
    double parameters;
  };
  for (const Size& size :
       {Size{"llama", "1b", 1.34e9}, Size{"llama", "7b", 6.74e9}, Size{"gpt2", "xl", 1.558e9}}) {
    INFO(size.name);
    const TinyRun run;
    const Finished finished = run.train(
        {"--dry-run", "--json", "model={family: " + size.family + ", size: " + size.name + "}",
         "model.layers=null", "model.width=null", "model.heads=null", "model.context=null"});
    INFO(finished.err);
    REQUIRE(finished.exit_code == 0);
    const auto plan = nlohmann::json::parse(finished.out);
    CHECK(plan.at("parameters").get<double>() == Approx(size.parameters).epsilon(0.01));
    CHECK(finished.seconds < 2);
    CHECK(finished.peak_bytes < 256 * kMebibyte);  // under sanitizers too
  }
}

TEST_CASE("train --dry-run: shards are read through and not kept") {
  if (SANITIZED) return;  // whose memory is not the program's
  const TinyRun run({"data.grammar=null"});
  const std::string shard = run.folder().path() + "/large.bin";
  write_shard(shard, std::vector<uint16_t>(size_t{48} << 20, 77));  // 96 MiB
  const std::string data = "data.train=[" + shard + "]";
  CHECK(plan_of(run, {data}).at("config").at("model").at("vocabulary") == 78);
  const int64_t unread = run.train({data, "--dry-run", "model.vocabulary=78"}).peak_bytes;
  CHECK(run.train({data, "--dry-run"}).peak_bytes < unread + 16 * kMebibyte);
}

TEST_CASE("train: memory is what the plan says") {
  if (SANITIZED) return;  // whose memory is not the program's
  const TinyRun run({"model.width=384", "model.heads=6", "model.layers=4", "model.context=256",
                     "data.sequence_length=256", "batch.tokens_per_step=2048",
                     "batch.micro_batch=8", "schedule.stop_step=2", "evaluation.tokens=256"});
  const int64_t planned = plan_of(run).at("memory_bytes").at("total").get<int64_t>();
  CHECK(planned > 100 * kMebibyte);
  const int64_t idle = run.train({"--dry-run"}).peak_bytes;
  const Finished finished = run.train();
  REQUIRE(finished.exit_code == 0);
  const int64_t grown = finished.peak_bytes - idle;
  INFO("planned " << planned << " bytes, grown by " << grown);
  // All that is planned is used, but for rooms that this run does not fill; beside it come the
  // host's copies while it saves, scratch of the products, libraries.
  CHECK(grown > planned * 8 / 10);
  CHECK(grown < planned * 13 / 10 + 64 * kMebibyte);
}

TEST_CASE("evaluate: JSON has the contract's keys and a perplexity that fits") {
  const TinyRun run;
  run.trained();
  const std::string text = run.folder().write("a.txt", story(60));
  const Finished finished = evaluate({run.directory(), "--tokens", text, text, "--json"});
  INFO(finished.err);
  REQUIRE(finished.exit_code == 0);
  const auto result = nlohmann::json::parse(finished.out);
  CHECK(result.at("perplexity").get<double>() == Approx(std::exp(result.at("loss").get<double>())));
  CHECK(result.at("range_95").size() == 2);
  CHECK(result.at("range_95")[0] <= result.at("median"));
  CHECK(result.at("range_99_9")[1] >= result.at("range_95")[1]);
  // Every token and the end of both texts but the first token of all.
  CHECK(result.at("tokens") == 2 * (content(text).size() + 1) - 1);
  REQUIRE(result.at("worst_documents").size() == 2);
  CHECK(result.at("worst_documents")[0].at("loss") >= result.at("worst_documents")[1].at("loss"));
  const Finished words = evaluate({run.checkpoint(60), "--tokens", text});
  CHECK(words.out.find("nats per token") != std::string::npos);
}

TEST_CASE("evaluate: texts need a known tokenizer and shards need none") {
  const TinyRun run({"data.grammar=null", "schedule.stop_step=1"});
  const std::string text = run.folder().write("a.txt", story(10));
  const std::string shard = run.folder().path() + "/a.bin";
  write_shard(shard, std::vector<uint16_t>(300, 256));
  run.trained({"data.train=[" + shard + "]"});
  const Finished unknown = evaluate({run.directory(), "--tokens", text});
  CHECK(unknown.exit_code == 2);
  CHECK(unknown.err.find("tokenizer is not known. Name it with --tokenizer") != std::string::npos);
  CHECK(generate(run, {"--prompt", "a"}).err.find("tokenizer is not known") != std::string::npos);
  CHECK(evaluate({run.directory(), "--tokens", text, "--tokenizer", "bytes"}).exit_code == 0);
  CHECK(evaluate({run.directory(), "--tokens", shard}).exit_code == 0);
}

TEST_CASE("README, quickstart: the examples of plans and of a shorter run are what train takes") {
  const std::string root = SOURCE_DIRECTORY;
  const Finished help = normlab::test::run({root + "/tools/quickstart", "--help"});
  const std::string start = "example: tools/quickstart ";
  REQUIRE(help.out.find(start) != std::string::npos);
  std::vector<std::string> lines = {"build/train tools/recipes/quickstart.yaml " +
                                    help.out.substr(help.out.find(start) + start.size()) +
                                    " --dry-run"};
  std::istringstream readme(content(root + "/README.md"));
  for (std::string line; std::getline(readme, line);) {
    if (line.starts_with("build/train ") && line.ends_with("--dry-run")) lines.push_back(line);
  }
  REQUIRE(lines.size() >= 2);
  // In another directory than a plain quickstart's, which is finished.
  CHECK(lines[0].find("run.directory=") != std::string::npos);
  const TemporaryFolder folder;
  const std::string text = folder.write("my.txt", "any text");  // which a plan does not read
  for (const std::string& line : lines) {
    std::istringstream words(line);
    std::vector<std::string> command{std::istream_iterator<std::string>(words), {}};
    std::replace(command.begin(), command.end(), std::string("data.text=my.txt"),
                 "data.text=" + text);
    command[0] = program("train");
    command[1] = root + "/" + command[1];
    const Finished finished = normlab::test::run(command);
    INFO(line << "\n" << finished.err);
    CHECK(finished.exit_code == 0);
  }
}

TEST_CASE("evaluate: input that is wrong is exit code 2 and one line") {
  const TinyRun run;
  run.trained({"schedule.stop_step=1"});
  const std::string text = run.folder().write("a.txt", story(10));
  const std::string shard = run.folder().path() + "/a.bin";
  write_validation_shard(shard, text);
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{run.folder().path(), "--tokens", text}, "config.json"},
      {{run.directory(), "--tokens", run.folder().path() + "/none"}, "none"},
      {{run.directory(), "--tokens", text, shard}, "together"},
      {{run.directory(), "--tokens", text, "--sequence-length", "33"}, "context is 32"},
      {{run.directory(), "--tokens", text, "--threads", "-1"}, "--threads"},
      {{run.directory(), "--tokens", text, "--tokenizer", "gpt2"}, "gpt2"},
      {{run.directory(), "--tokens", text, "--packing", "tight"}, "--packing"},
      {{run.directory(), "--tokens", shard, "--packing", "padded"}, shard + ": packing padded"},
      {{run.directory(), "--tokens", shard, "--mask-eot-targets"}, "documents end"},
      {{run.directory()}, "--tokens"},
  };
  for (const auto& [words, part] : cases) {
    const Finished finished = evaluate(words);
    INFO(finished.err);
    CHECK(finished.exit_code == 2);
    CHECK(count_lines(finished.err) == 1);
    CHECK(finished.err.find(part) != std::string::npos);
    CHECK(finished.out.empty());
  }
}

TEST_CASE("generate: a seed decides the text and no temperature needs none") {
  const TinyRun run;
  run.trained();
  const auto text = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words = {"--prompt", "The ", "--tokens", "100"};
    words.insert(words.end(), more.begin(), more.end());
    const Finished finished = generate(run, words);
    CHECK(finished.exit_code == 0);
    CHECK(finished.out.starts_with("The "));
    return finished.out;
  };
  CHECK(text({"--seed", "1"}) == text({"--seed", "1", "--threads", "2"}));
  CHECK(text({"--seed", "1"}) != text({"--seed", "2"}));
  const std::string greedy = text({"--temperature", "0", "--seed", "1"});
  CHECK(greedy == text({"--temperature", "0", "--seed", "2"}));
  CHECK(greedy == text({"--top-k", "1", "--seed", "3"}));
}

TEST_CASE("generate: a model of no known tokenizer is told so") {
  const TinyRun run;
  run.trained({"schedule.stop_step=1"});
  const std::string config = run.checkpoint(1) + "/config.json";
  auto json = nlohmann::json::parse(content(config));
  json.erase("normlab");
  std::ofstream(config) << json.dump();
  const auto at = [&](const std::vector<std::string>& more) {
    std::vector<std::string> command = {program("generate"), run.checkpoint(1), "--prompt", "a"};
    command.insert(command.end(), more.begin(), more.end());
    return normlab::test::run(command);
  };
  CHECK(at({}).exit_code == 2);
  CHECK(at({}).err.find("--tokenizer") != std::string::npos);
  CHECK(at({"--tokenizer", "klingon"}).exit_code == 2);
  CHECK(at({"--tokenizer", "klingon"}).err.find("klingon") != std::string::npos);
  CHECK(at({"--tokenizer", "bytes", "--tokens", "3"}).exit_code == 0);
}

TEST_CASE("evaluate, generate: a run whose newest checkpoint is damaged gives the one before") {
  const TinyRun run;
  run.trained();
  flip_byte(run.checkpoint(60) + "/model.safetensors", 50'000);
  const Finished finished = generate(run, {"--prompt", "a", "--tokens", "3"});
  CHECK(finished.exit_code == 0);
  CHECK(finished.err.find(run.checkpoint(60)) != std::string::npos);
}

TEST_CASE("evaluate, generate: a device that the build does not have is told so") {
  const TinyRun run({"schedule.stop_step=1"});
  run.trained();
  if (normlab::test::run({program("train"), "--version"}).out.find("no CUDA part") ==
      std::string::npos) {
    return;  // a build with a CUDA part: what it says depends on the machine
  }
  const Overrides asks = {"--device", "cuda"};
  Overrides tokens = {program("evaluate"), run.directory(), "--tokens", run.recipe()};
  tokens.insert(tokens.end(), asks.begin(), asks.end());
  for (const Finished& finished : {normlab::test::run(tokens), generate(run, asks)}) {
    INFO(finished.err);
    CHECK(finished.exit_code == 2);
    CHECK(finished.err.find("device = cuda (this build has no CUDA part") != std::string::npos);
  }
  CHECK(generate(run, {"--device", "tpu"}).exit_code == 2);
}
