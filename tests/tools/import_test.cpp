// Models of Hugging Face, in and out, by the programs.
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "engine/hugging_face.h"
#include "engine/safetensors.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;
using nlohmann::json;

namespace {

const std::string golden = std::string(SOURCE_DIRECTORY) + "/tests/golden/";
const std::string tokenizer = "sentencepiece:" + golden + "tokenizer.model";

// Tokens i·31 mod 67 as a shard in llm.c's layout.
std::string shard(const TemporaryFolder& folder, int tokens) {
  std::vector<int32_t> header(256);
  header[0] = 20240520;
  header[1] = 1;
  header[2] = tokens;
  std::string bytes(reinterpret_cast<const char*>(header.data()), 1024);
  for (int i = 0; i < tokens; ++i) bytes += {static_cast<char>(i * 31 % 67), '\0'};
  return folder.write("tokens.bin", bytes);
}

double loss(const std::string& model, const std::string& tokens, const std::string& length) {
  const Finished finished =
      run({program("evaluate"), model, "--tokens", tokens, "--json", "--precision", "fp32",
           "--sequence-length", length, "--batch", "1", "--threads", "1"});
  INFO(finished.err);
  REQUIRE(finished.exit_code == 0);
  return json::parse(finished.out).at("loss").get<double>();
}

Finished exported(const std::string& model, const std::string& out,
                  const std::vector<std::string>& more = {}) {
  std::vector<std::string> command = {program("export"), model, "--out", out, "--format", "hf"};
  command.insert(command.end(), more.begin(), more.end());
  return run(command);
}

bool has(const std::string& text, const std::string& part) {
  INFO(text);
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

}  // namespace

TEST_CASE("evaluate: the golden models have the losses that transformers gives them") {
  const TemporaryFolder folder;
  const std::string tokens = shard(folder, 73);
  // In float64, over the 72 tokens that follow one.
  for (const auto& [name, expected] : std::map<std::string, double>{{"gpt2", 5.836211299},
                                                                    {"llama", 5.633487645},
                                                                    {"llama_tied", 5.631375086},
                                                                    {"mistral", 4.846483544},
                                                                    {"qwen2", 5.573673352}}) {
    INFO(name);
    CHECK(std::abs(loss(golden + name, tokens, "72") - expected) < 1e-5);
    // What is exported in half precision differs by its rounding, and only by it.
    const std::string out = folder.path() + "/" + name;
    REQUIRE(exported(golden + name, out, {"--dtype", "fp16"}).exit_code == 0);
    const double rounded = std::abs(loss(out, tokens, "72") - expected);
    CHECK(rounded < 1e-2);
    CHECK(rounded > 1e-7);
  }
}

TEST_CASE("generate: the golden models continue a text, with the tokenizer beside them or named") {
  const TemporaryFolder folder;
  for (const std::string name : {"gpt2", "llama", "llama_tied", "mistral", "qwen2"}) {
    INFO(name);
    const std::vector<std::string> rest = {"--prompt", "the dog", "--tokens",    "5",
                                           "--seed",   "1",       "--precision", "fp32"};
    std::vector<std::string> command = {program("generate"), golden + name, "--tokenizer",
                                        tokenizer};
    command.insert(command.end(), rest.begin(), rest.end());
    const Finished named = run(command);
    INFO(named.err);
    if (named.err.find("has no SentencePiece") != std::string::npos) {
      WARN("skipped: " << named.err);
      return;
    }
    REQUIRE(named.exit_code == 0);
    CHECK(named.out.starts_with("the dog"));
    CHECK(named.out.size() > std::strlen("the dog\n"));
    // An export takes the tokenizer along.
    const std::string out = folder.path() + "/" + name;
    REQUIRE(exported(golden + name, out, {"--tokenizer", tokenizer}).exit_code == 0);
    CHECK(content(out + "/tokenizer.model") == content(golden + "tokenizer.model"));
    command = {program("generate"), out};
    command.insert(command.end(), rest.begin(), rest.end());
    CHECK(run(command).out == named.out);
  }
}

TEST_CASE("export: a run comes out as what its checkpoint holds, and trains on from there") {
  const TinyRun from;
  from.trained({"schedule.stop_step=2"});
  const std::string out = from.folder().path() + "/models/out";
  const Finished finished = exported(from.directory(), out + "/");
  INFO(finished.err);
  REQUIRE(finished.exit_code == 0);
  const std::string weights = "/model.safetensors";
  CHECK(content(out + weights) == content(from.checkpoint(2) + weights));
  CHECK(content(out + "/config.json") == content(from.checkpoint(2) + "/config.json"));
  CHECK(std::filesystem::directory_iterator(from.folder().path() + "/models") !=
        std::filesystem::directory_iterator());
  CHECK(tree_of(from.folder().path() + "/models").size() == 3);  // nothing half written beside
  const TinyRun on({"model.layers=null", "model.width=null", "model.heads=null",
                    "model.context=null", "model.from=" + out});
  CHECK(on.train({"schedule.stop_step=1"}).exit_code == 0);
}

TEST_CASE("export: what cannot be written is said, and nothing is left behind") {
  const TemporaryFolder folder;
  const auto complaint = [&](const std::string& model, const std::vector<std::string>& more) {
    const Finished finished = exported(model, folder.path() + "/out", more);
    CHECK(finished.exit_code == 2);
    CHECK(count_lines(finished.err) == 1);
    CHECK(tree_of(folder.path()).size() == 0);
    return finished.err;
  };
  has(complaint(golden + "gpt2", {"--scale", "1e6"}), "--scale (only hf-ln-free has one)");
  has(complaint(golden + "gpt2", {"--dtype", "int8"}), "int8");
  has(complaint(golden + "none", {}), "Check the path");

  const TinyRun run;
  run.trained({"schedule.stop_step=1", "model.norm.placement=post"});
  has(complaint(run.directory(), {}),
      "no plain model computes it (it has norms in the place "
      "\"post\", where GPT-2 has them before each sublayer). Use");
}

TEST_CASE("export: a model whose norms are removed has the same loss in every form") {
  const TemporaryFolder folder;
  const std::string tokens = shard(folder, 73), source = folder.path() + "/source";
  std::filesystem::copy(golden + "gpt2", source);
  json config = json::parse(content(source + "/config.json"));
  json norms = json::array();
  for (const char* site : {"attention_qk", "attention_v", "mlp"}) {
    for (int layer = 0; layer < 3; ++layer) {
      const double sigma = 0.7 + 0.2 * static_cast<double>(norms.size());
      norms.push_back({{"site", site}, {"layer", layer}, {"gate", 0.0}, {"std", sigma}});
    }
  }
  config["normlab"] = {{"norms", norms}};
  folder.write("source/config.json", config.dump());
  const auto written = [&](const std::string& name, const std::vector<std::string>& more) {
    const std::string out = folder.path() + "/" + name;
    std::vector<std::string> command = {program("export"), source, "--out", out};
    command.insert(command.end(), more.begin(), more.end());
    const Finished finished = run(command);
    INFO(finished.err);
    CHECK(finished.exit_code == (name == "refused" ? 2 : 0));
    has(finished.err, name == "refused" ? "(the final norm is live). Remove it"
                                        : "read again, its logits differ by ");
    return out;
  };
  const double partly = loss(source, tokens, "72");
  CHECK(loss(written("partly", {"--format", "folded"}), tokens, "72") == partly);
  written("refused", {"--format", "hf-ln-free"});

  norms.push_back({{"site", "final"}, {"layer", nullptr}, {"gate", 0.0}, {"std", 1.9}});
  config["normlab"]["norms"] = norms;
  folder.write("source/config.json", config.dump());
  const double removed = loss(source, tokens, "72");
  CHECK(std::abs(removed - partly) > 1e-3);
  CHECK(std::abs(removed - 5.836211299) > 1e-3);
  const std::string ln_free = written("ln-free", {"--format", "hf-ln-free"});
  const std::string folded = written("folded", {"--format", "folded"});
  CHECK(std::abs(loss(ln_free, tokens, "72") - removed) < 1e-5);
  CHECK(std::abs(loss(folded, tokens, "72") - removed) < 1e-5);
  const std::string half = written("half", {"--format", "folded", "--dtype", "bf16"});
  CHECK(std::abs(loss(half, tokens, "72") - removed) < 5e-2);

  const Finished text = run({program("generate"), folded, "--tokenizer", tokenizer, "--prompt",
                             "the dog", "--tokens", "5", "--precision", "fp32", "--seed", "1"});
  if (text.err.find("has no SentencePiece") == std::string::npos) CHECK(text.exit_code == 0);
}

TEST_CASE("train: goes on from models whose norms are removed, and from folded ones") {
  const TinyRun from;
  from.trained({"schedule.stop_step=2"});
  const TemporaryFolder folder;
  json config = json::parse(content(from.checkpoint(2) + "/config.json"));
  config["normlab"]["norms"] = norms_to_json(frozen_norms(gpt2_defaults().norm, 2, 1.25));
  folder.write("removed/config.json", config.dump());
  folder.write("removed/model.safetensors", content(from.checkpoint(2) + "/model.safetensors"));
  for (const std::string format : {"folded", "hf-ln-free"}) {
    INFO(format);
    const std::string out = folder.path() + "/" + format;
    const Finished finished =
        run({program("export"), folder.path() + "/removed", "--out", out, "--format", format});
    INFO(finished.err);
    REQUIRE(finished.exit_code == 0);
    const TinyRun on({"model.layers=null", "model.width=null", "model.heads=null",
                      "model.context=null", "model.from=" + out});
    const Finished trained = on.train({"schedule.stop_step=1"});
    INFO(trained.err);
    CHECK(trained.exit_code == 0);
    // What the run saves is read again.
    const json saved = json::parse(content(on.checkpoint(1) + "/config.json"));
    CHECK(saved.at("normlab").at("placement") == (format == "folded" ? "none" : "pre"));
    CHECK(saved.at("normlab").at("head_bias") == (format == "folded"));
    const json& norms = saved.at("normlab").at("norms");
    CHECK(norms.size() == (format == "folded" ? 0 : 7));
    for (const json& norm : norms) CHECK(norm.at("std") == 1.25);
    CHECK(trained.err.find("warning") == std::string::npos);
  }
  // As others publish it: who trains on is told that the gains are not the published model's.
  const std::string published = folder.path() + "/hf-ln-free/config.json";
  config = json::parse(content(published));
  config.erase("normlab");
  folder.write("hf-ln-free/config.json", config.dump());
  const TinyRun on({"model.layers=null", "model.width=null", "model.heads=null",
                    "model.context=null", "model.from=" + folder.path() + "/hf-ln-free"});
  const Finished trained = on.train({"schedule.stop_step=1"});
  CHECK(trained.exit_code == 0);
  has(trained.err, "std 1 and gains that hold gain/std, which computes the same). Training on");
}

TEST_CASE("export: a directory that is in use is not touched") {
  const TemporaryFolder folder;
  folder.write("out/mine.txt", "precious");
  const Finished finished = exported(golden + "llama", folder.path() + "/out");
  CHECK(finished.exit_code == 2);
  has(finished.err, "/out: there already (and not empty). Choose another or remove it");
  CHECK(tree_of(folder.path()).size() == 2);
  std::filesystem::create_directory(folder.path() + "/empty");
  CHECK(exported(golden + "llama", folder.path() + "/empty").exit_code == 0);
}

namespace {

// Half a gigabyte of weights, most of them in one tensor.
ModelConfig large_model(int64_t vocabulary) {
  ModelConfig config = gpt2_defaults();
  config.layers = 4;
  config.width = 512;
  config.heads = config.kv_heads = 8;
  config.head_size = 64;
  config.feed_forward = 2048;
  config.vocabulary = vocabulary;
  config.context = 64;
  return config;
}

// Of an evaluation of a model whose weights are 0.
int64_t peak_bytes(const ModelConfig& config) {
  const TemporaryFolder folder;
  std::vector<TensorToWrite> tensors;
  for (const NamedSlice& slice : file_names(config)) {
    tensors.push_back(
        {slice.name,
         StoredType::f32,
         {slice.shape.extents.begin(), slice.shape.extents.begin() + slice.shape.rank},
         [](std::span<std::byte> bytes) { std::memset(bytes.data(), 0, bytes.size()); }});
  }
  write_safetensors(folder.path() + "/model.safetensors", tensors);
  ModelDescription description;
  description.config = config;
  folder.write("config.json", config_json(description));
  const Finished finished =
      run({program("evaluate"), folder.path(), "--tokens", shard(folder, 9), "--sequence-length",
           "8", "--batch", "1", "--precision", "fp32", "--threads", "1"});
  INFO(finished.err);
  REQUIRE(finished.exit_code == 0);
  return finished.peak_bytes;
}

}  // namespace

// Between two models that both need more than the program does while it loads its libraries (with
// CUDA's more than 200 MB).
TEST_CASE("evaluate: a model takes the memory of its weights and no tenth more") {
  if (SANITIZED) return;  // whose memory is not the program's
  const ModelConfig small = large_model(150'000), large = large_model(250'000);
  const int64_t weights =
      (parameter_count(large) - parameter_count(small)) * int64_t{size_of(DType::f32)};
  const int64_t grown = peak_bytes(large) - peak_bytes(small);
  CAPTURE(weights, grown);
  CHECK(grown > weights - weights / 20);
  CHECK(grown < weights + weights / 10);
}
