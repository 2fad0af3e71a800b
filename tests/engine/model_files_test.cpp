// The tokenizer beside a model: written with it, and found again.
#include "engine/model_files.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "engine/checkpoint.h"
#include "small_model.h"
#include "temporary_folder.h"

using namespace normlab;
using namespace normlab::test;
using nlohmann::json;

namespace {

ModelDescription described(const std::string& tokenizer) {
  ModelDescription description;
  description.config = small_config(Family::llama);
  description.tokenizer = tokenizer;
  return description;
}

std::string complaint(const ModelDescription& description, const TemporaryFolder& folder) {
  try {
    return "found " + tokenizer_for(description, "", folder.path());
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
}

bool has(const std::string& text, const std::string& part) {
  INFO(text);
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

}  // namespace

TEST_CASE("tokenizer_for: the one given, or the files beside, or what config.json says") {
  const TemporaryFolder folder;
  CHECK(tokenizer_for(described("bytes"), "", folder.path()) == "bytes");
  folder.write("vocab.json", "{}");
  CHECK(tokenizer_for(described("bytes"), "", folder.path()) == "bytes");  // merges.txt is missing
  folder.write("merges.txt", "");
  CHECK(tokenizer_for(described("bytes"), "", folder.path()) == "gpt2:" + folder.path());
  CHECK(tokenizer_for(described("bytes"), "other", folder.path()) == "other");
  folder.write("tokenizer.model", "");
  has(complaint(described("bytes"), folder), "holds two tokenizers");
  std::filesystem::remove(folder.path() + "/merges.txt");
  CHECK(tokenizer_for(described(""), "", folder.path()) ==
        "sentencepiece:" + folder.path() + "/tokenizer.model");
}

TEST_CASE("tokenizer_for: files that config.json says are beside are looked for there") {
  const TemporaryFolder folder;
  CHECK(tokenizer_for(described("gpt2:."), "", folder.path()) == "gpt2:" + folder.path());
  CHECK(tokenizer_for(described("sentencepiece:./a.model"), "", folder.path()) ==
        "sentencepiece:" + folder.path() + "/a.model");
  CHECK(tokenizer_for(described("gpt2:elsewhere"), "", folder.path()) == "gpt2:elsewhere");
}

TEST_CASE("tokenizer_for: what is not known or not read is said") {
  const TemporaryFolder folder;
  has(complaint(described(""), folder), ": its tokenizer is not known. Name it with --tokenizer");
  folder.write("tokenizer.json", "{}");
  has(complaint(described(""), folder), "(tokenizer.json is not read). Put vocab.json");
}

TEST_CASE("use_tokenizer: its name, files and ids go with the model") {
  const TokenizerFiles gpt2{"gpt2:.", 7, {{"vocab.json", "v"}, {"merges.txt", "m"}}};
  ModelDescription description = described("");
  use_tokenizer(description, gpt2);
  const TemporaryFolder folder;
  const std::vector<std::string> written = write_description(folder.path(), description);
  CHECK(written == std::vector<std::string>{"config.json", "merges.txt", "tokenizer_config.json",
                                            "vocab.json"});
  const ModelDescription read = read_config_json(folder.path());
  CHECK(read.tokenizer == "gpt2:.");
  CHECK(read.begin_of_text == 7);
  CHECK(read.end_of_text == 7);
  CHECK(tokenizer_for(read, "", folder.path()) == "gpt2:" + folder.path());
  // transformers would look for a llama's own tokenizer.
  const json settings = json::parse(description.files.at("tokenizer_config.json"));
  CHECK(settings.at("tokenizer_class") == "GPT2Tokenizer");
  CHECK(settings.at("model_max_length") == 12);

  const TokenizerFiles sentencepiece{
      "sentencepiece:./tokenizer.model", 2, {{"tokenizer.model", ""}}};
  description = described("");
  use_tokenizer(description, sentencepiece);
  CHECK(!description.files.contains("tokenizer_config.json"));
  description.config = small_config(Family::gpt2);
  use_tokenizer(description, sentencepiece);
  CHECK(json::parse(description.files.at("tokenizer_config.json")).at("tokenizer_class") ==
        "TokenizersBackend");
  // An id that the model does not have is not told.
  description = described("");
  use_tokenizer(description, {"bytes", 256, {}});
  CHECK(description.end_of_text == -1);
  CHECK(description.tokenizer == "bytes");
}

TEST_CASE("read_tokenizer: what cannot be read is a warning, and the name is kept") {
  std::vector<std::string> warnings;
  CHECK(read_tokenizer("", warnings).name == "");
  const TokenizerFiles bytes = read_tokenizer("bytes", warnings);
  CHECK(bytes.name == "bytes");
  CHECK(bytes.end_of_text == 256);
  CHECK(bytes.files.empty());
  CHECK(warnings.empty());
  const TokenizerFiles none = read_tokenizer("sentencepiece:none.model", warnings);
  CHECK(none.name == "sentencepiece:none.model");
  CHECK(none.end_of_text == -1);
  REQUIRE(warnings.size() == 1);
  has(warnings.front(), "(models are saved without the files of their tokenizer)");
}

TEST_CASE("read_tokenizer: a SentencePiece model is written under the name that others look for") {
  std::vector<std::string> warnings;
  const std::string file = std::string(SOURCE_DIRECTORY) + "/tests/golden/tokenizer.model";
  const TemporaryFolder folder;
  std::filesystem::copy_file(file, folder.path() + "/mine.model");
  const TokenizerFiles read =
      read_tokenizer("sentencepiece:" + folder.path() + "/mine.model", warnings);
  if (!warnings.empty()) {
    has(warnings.front(), "has no SentencePiece");
    WARN("skipped: " << warnings.front());
    return;
  }
  CHECK(read.name == "sentencepiece:./tokenizer.model");
  CHECK(read.end_of_text == 2);
  REQUIRE(read.files.contains("tokenizer.model"));
  CHECK(read.files.at("tokenizer.model").size() == std::filesystem::file_size(file));
}

TEST_CASE("checkpoint: the tokenizer's files are in it, and damage to them is noticed") {
  const TemporaryFolder folder;
  SmallModel small(small_config(Family::llama), Purpose::training);
  Optimizer optimizer(small.model, {});
  ModelDescription description = described("");
  use_tokenizer(description, {"gpt2:.", 7, {{"vocab.json", "v"}, {"merges.txt", "m"}}});
  CheckpointDirectory checkpoints(folder.path());
  TrainingState state;
  state.step = 3;
  checkpoints.save(small.model, optimizer, state, description, 3);
  CHECK_NOTHROW(checkpoints.verify_saved(3));
  const std::string path = "checkpoints/" + checkpoint_name(3);
  CHECK(std::filesystem::exists(folder.path() + "/" + path + "/tokenizer_config.json"));
  folder.write(path + "/merges.txt", "x");
  CHECK_THROWS_AS(checkpoints.verify_saved(3), Error);
  std::filesystem::remove(folder.path() + "/" + path + "/merges.txt");
  CHECK_THROWS_AS(checkpoints.verify_saved(3), Error);
}
