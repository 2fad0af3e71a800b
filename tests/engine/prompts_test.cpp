// Supervised fine-tuning: its configuration, and its losses against transformers
// (tests/golden/make_prompts.py).
#include <fstream>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "config_text.h"
#include "data/text_reader.h"
#include "engine/corpus.h"
#include "engine/evaluation.h"
#include "engine/hugging_face.h"
#include "engine/weights.h"
#include "temporary_folder.h"

using namespace normlab;
using namespace normlab::test;
using nlohmann::json;

namespace {

const std::string golden = SOURCE_DIRECTORY "/tests/golden/";
const std::vector<std::string> prompts = {"data.prompts=[a.jsonl]", "data.tokenizer=bytes"};

std::vector<std::string> with(std::vector<std::string> list, const std::string& more) {
  list.push_back(more);
  return list;
}

void check_case(const json& expected, const std::string& tokenizer_name) {
  const auto tokenizer = make_tokenizer(tokenizer_name);
  const TokenCorpus corpus =
      read_prompts({golden + "prompts/examples.jsonl"}, *tokenizer, {}, 0).train;
  const Documents documents(corpus);
  REQUIRE(documents.count() == static_cast<int64_t>(expected.at("ids").size()));
  for (int64_t i = 0; i < documents.count(); ++i) {
    std::vector<int32_t> ids, learnt;
    for (int64_t place = documents[i].begin; place < documents[i].end; ++place) {
      ids.push_back(corpus[place]);
      learnt.push_back(corpus.is_learnt(place) ? 1 : 0);
    }
    CHECK(ids == expected.at("ids")[static_cast<size_t>(i)].get<std::vector<int32_t>>());
    CHECK(learnt == expected.at("learnt")[static_cast<size_t>(i)].get<std::vector<int32_t>>());
  }
  const std::string folder = golden + expected.at("model").get<std::string>();
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  Model model(*ops, read_config_json(folder).config, {2, 32, Purpose::inference});
  load_weights(model, folder);
  for (const RowPacking packing : {RowPacking::padded, RowPacking::concatenated}) {
    const json& found = expected.at(packing == RowPacking::padded ? "padded" : "concatenated");
    EvaluationOptions options{.tokens_per_sequence = 32, .batch = 2};
    options.packing = packing;
    const EvaluationResult result = evaluate(model, corpus, options);
    CHECK(result.loss == Approx(found.at("loss").get<double>()).epsilon(1e-6));
    int64_t targets = 0;
    for (const json& count : found.at("targets")) targets += count.get<int64_t>();
    CHECK(result.tokens == targets);
  }
}

}  // namespace

TEST_CASE("prompts: tokens, targets and losses are those of transformers") {
  std::ifstream file(golden + "prompts/expected.json");
  const json all = json::parse(file);
  REQUIRE(all.size() == 2);
  check_case(all[0], "bytes");
  check_case(all[1], "sentencepiece:" + golden + "tokenizer.model");
}

TEST_CASE("prompts: a configuration says which, by what tokenizer and under what roles") {
  const Config config = parse(minimal, prompts);
  CHECK(config.data.corpus == Corpus::prompts);
  CHECK(config.data.prompts == std::vector<std::string>{"a.jsonl"});
  CHECK(config.data.packing == Packing::padded);
  CHECK(config.data.roles.user == "User:\n");
  const Config other =
      parse(minimal, with(prompts, "data.roles={system: \"S \", assistant: \"A \"}"));
  CHECK(other.data.roles.system == "S ");
  CHECK(other.data.roles.assistant == "A ");
  for (const Config& written : {config, other}) {
    const Config again = parse_config(to_yaml(written), "b.yaml");
    CHECK(same_config(again, written));
    CHECK(again.data.prompts == written.data.prompts);
    CHECK(again.data.roles.user == written.data.roles.user);
    CHECK(again.data.roles.system == written.data.roles.system);
  }
  CHECK(differences(to_yaml(config), to_yaml(other)).size() == 2);
  CHECK(parse(minimal, with(prompts, "data.packing=concatenated")).data.packing ==
        Packing::concatenated);
  CHECK(parse(minimal, with(prompts, "data.validation=[b.jsonl]")).data.validation_fraction == 0);
}

TEST_CASE("prompts: a configuration that does not fit says what to do") {
  CHECK(complaint(minimal, {"data.prompts=[a.jsonl]"}).find("data.tokenizer: gpt2:DIR") !=
        std::string::npos);
  CHECK(complaint(minimal, with(prompts, "data.text=[b.txt]")).find("only one can be") !=
        std::string::npos);
  CHECK(complaint(minimal, {"data.prompts=[]", "data.tokenizer=bytes"}).find("an empty list") !=
        std::string::npos);
  CHECK(complaint(minimal, {"data.roles={user: a}"}).find("data.prompts, which is not given") !=
        std::string::npos);
}

TEST_CASE("prompts: a run is told what of its examples is cut, and refuses what cannot be learnt") {
  const TemporaryFolder folder;
  const std::string file = folder.path() + "/a.jsonl";
  std::ofstream(file) << R"({"prompt": "abc", "completion": "d"})"
                      << "\n"
                      << R"({"prompt": "a", "completion": "bcd"})"
                      << "\n";
  const auto warnings = [&](const std::string& length) {
    const Config config =
        parse(minimal, {"data.prompts=[" + file + "]", "data.tokenizer=bytes",
                        "data.validation=[" + file + "]", "data.sequence_length=" + length,
                        "batch.tokens_per_step=" + length, "batch.micro_batch=1"});
    return prompt_warnings(config, open_corpus(config));
  };
  CHECK(warnings("8").empty());
  const std::string told =
      "2 of 2 examples are longer than 3 tokens and are cut; 1 have no completion left";
  CHECK(warnings("2") ==
        std::vector<std::string>{"data.prompts: " + told, "data.validation validation: " + told});
  std::ofstream(file) << R"({"prompt": "abcdef", "completion": "g"})"
                      << "\n";
  CHECK_THROWS_AS(warnings("2"), Error);
}
