// evaluate --multiple-choice: what it prints and writes, and what it refuses.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

namespace {

const std::string kModel = SOURCE_DIRECTORY "/tests/golden/multiple_choice";
const std::string kQuestions = kModel + "/questions.jsonl";

Finished evaluate(std::vector<std::string> words) {
  words.insert(words.begin(), program("evaluate"));
  return normlab::test::run(words);
}

nlohmann::json expected(const std::string& key) {
  std::ifstream file(kModel + "/expected.json");
  return nlohmann::json::parse(file).at(key);
}

}  // namespace

TEST_CASE("evaluate --multiple-choice: the harness's numbers, as JSON, as text and in detail") {
  const TemporaryFolder folder;
  const std::string details = folder.path() + "/details.jsonl";
  const Finished json =
      evaluate({kModel, "--multiple-choice", kQuestions, "--details", details, "--json"});
  INFO(json.err);
  REQUIRE(json.exit_code == 0);
  const auto found = nlohmann::ordered_json::parse(json.out);
  const nlohmann::json wanted = expected("gpt2");
  CHECK(found.size() == 7);
  CHECK(found.at("questions") == 40);
  for (const std::string key : {"acc", "acc_norm", "acc_bytes"}) {
    for (const std::string& name : {key, key + "_stderr"}) {
      CHECK(found.at(name).get<double>() == Approx(wanted.at(name).get<double>()));
    }
  }

  std::ifstream file(details);
  double right = 0;
  size_t number = 0;
  for (std::string line; std::getline(file, line); ++number) {
    const auto one = nlohmann::json::parse(line);
    const auto values = one.at("log_likelihoods").get<std::vector<double>>();
    const auto list = wanted.at("log_likelihoods").at(number).get<std::vector<double>>();
    REQUIRE(values.size() == list.size());
    for (size_t i = 0; i < values.size(); ++i) CHECK(values[i] == Approx(list[i]).margin(1e-4));
    right += one.at("acc").get<bool>() ? 1 : 0;
  }
  CHECK(number == 40);
  CHECK(right / 40 == wanted.at("acc").get<double>());

  const Finished text = evaluate({kModel, "--multiple-choice", kQuestions});
  CHECK(text.out ==
        "acc        0.475 ± 0.0799639\nacc_norm   0.375 ± 0.0775217\n"
        "acc_bytes  0.375 ± 0.0775217\nquestions  40\n");
}

TEST_CASE("evaluate --multiple-choice: tokenizer, batch and length are the command line's") {
  const TemporaryFolder folder;
  const auto details = [&](const std::vector<std::string>& more) {
    const std::string path = folder.path() + "/details.jsonl";
    std::vector<std::string> words = {kModel, "--multiple-choice", kQuestions, "--details", path};
    words.insert(words.end(), more.begin(), more.end());
    const Finished finished = evaluate(words);
    INFO(finished.err);
    REQUIRE(finished.exit_code == 0);
    std::vector<nlohmann::json> lines;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
  };
  const auto own = details({});
  const auto bytes = details({"--tokenizer", "bytes"});
  const auto one_by_one = details({"--tokenizer", "bytes", "--batch", "1"});
  const auto shortened = details({"--sequence-length", "30"});
  const nlohmann::json wanted = expected("bytes").at("log_likelihoods");
  REQUIRE(bytes.size() == 40);
  size_t shorter = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const double first = wanted.at(i).at(0).get<double>();
    CHECK(bytes[i].at("log_likelihoods").at(0).get<double>() == Approx(first).margin(1e-4));
    CHECK(one_by_one[i].at("log_likelihoods").at(0).get<double>() == Approx(first).margin(1e-4));
    const double change = shortened[i].at("log_likelihoods").at(0).get<double>() -
                          own[i].at("log_likelihoods").at(0).get<double>();
    shorter += std::abs(change) > 1e-2 ? 1 : 0;
  }
  CHECK(shorter > 3);  // the long queries have lost their beginnings
  CHECK(shorter < 10);
}

TEST_CASE("evaluate --multiple-choice: a run answers with its own tokenizer") {
  const TinyRun run;
  run.trained({"schedule.stop_step=1"});
  const std::string questions = run.folder().write(
      "q.jsonl", "{\"query\": \"The fox\", \"choices\": [\"runs\"], \"gold\": 0}\n");
  const Finished finished = evaluate({run.directory(), "--multiple-choice", questions, "--json"});
  INFO(finished.err);
  REQUIRE(finished.exit_code == 0);
  const auto json = nlohmann::json::parse(finished.out);
  CHECK(json.at("acc") == 1.0);
  CHECK(json.at("acc_stderr").is_null());
  const Finished text = evaluate({run.directory(), "--multiple-choice", questions});
  CHECK(text.out == "acc        1\nacc_norm   1\nacc_bytes  1\nquestions  1\n");
}

TEST_CASE("evaluate --multiple-choice: what is wrong is one line that names it") {
  const TemporaryFolder folder;
  const std::string outside =
      folder.write("q.jsonl", "\n{\"query\": \"q\", \"choices\": [\"a\"], \"gold\": 1}\n");
  const std::string long_one =
      folder.write("long.jsonl", "{\"query\": \"q\", \"choices\": [\"a\", \"" +
                                     std::string(70, '~') + "\"], \"gold\": 1}\n");
  for (const auto& [words, reason] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"--multiple-choice", outside}, outside + ":2: \"gold\" is 1 (the choices are 0 to 0)"},
           {{"--multiple-choice", long_one}, long_one + ":1, choice 1: is of 71 tokens (the model"},
           {{"--multiple-choice", kQuestions, "--sequence-length", "41"}, "context is 40"},
           {{"--multiple-choice", kQuestions, "--tokens", kQuestions}, "--tokens"},
           {{"--multiple-choice", kQuestions, "--packing", "padded"}, "--packing"},
           {{"--tokens", kQuestions, "--details", "x"}, "--multiple-choice"},
           {{"--multiple-choice", folder.path() + "/none.jsonl"}, "none.jsonl"}}) {
    std::vector<std::string> command = {kModel};
    command.insert(command.end(), words.begin(), words.end());
    const Finished finished = evaluate(command);
    INFO(finished.err);
    CHECK(finished.exit_code == 2);
    CHECK(std::count(finished.err.begin(), finished.err.end(), '\n') == 1);
    CHECK(finished.err.find(reason) != std::string::npos);
  }
  const Finished vocabulary = evaluate({SOURCE_DIRECTORY "/tests/golden/llama", "--multiple-choice",
                                        kQuestions, "--tokenizer", "bytes"});
  CHECK(vocabulary.exit_code == 2);
  CHECK(vocabulary.err.find("tokenizer bytes: has a vocabulary of 257 (the model's is of 101)") !=
        std::string::npos);
}
