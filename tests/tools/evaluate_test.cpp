// evaluate: several sets in one run, documents that the model does badly on, masked ends of text.
#include "catch.h"
#include "data/token_shards.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

namespace {

Finished evaluate(const std::vector<std::string>& words) {
  std::vector<std::string> command = {program("evaluate")};
  command.insert(command.end(), words.begin(), words.end());
  return normlab::test::run(command);
}

nlohmann::ordered_json evaluated(std::vector<std::string> words) {
  words.push_back("--json");
  const Finished finished = evaluate(words);
  INFO(finished.err);
  REQUIRE(finished.exit_code == 0);
  return nlohmann::ordered_json::parse(finished.out);
}

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("evaluate: each of several named sets has the numbers that it has alone") {
  const TinyRun run;
  run.trained({"schedule.stop_step=5"});
  const std::string model = run.directory();
  const std::string one = run.folder().write("one.txt", story(20));
  const std::string two = run.folder().write("two.txt", story(33));
  const std::string shard = run.folder().path() + "/rows.bin";
  write_shard(shard, std::vector<uint16_t>(200, 65));
  const auto all =
      evaluated({model, "--set", "stories", one, two, "--set", "rows", shard, "--batch", "3"});
  CHECK(all.size() == 1);
  const auto& sets = all.at("sets");
  REQUIRE(sets.size() == 2);
  CHECK(sets.begin().key() == "stories");  // in the order of the command line
  CHECK(sets.at("stories") == evaluated({model, "--tokens", one, two, "--batch", "3"}));
  CHECK(sets.at("rows") == evaluated({model, "--tokens", shard, "--batch", "3"}));

  const Finished text = evaluate({model, "--set", "stories", one, "--set", "rows", shard});
  INFO(text.err);
  CHECK(text.exit_code == 0);
  CHECK(text.out.starts_with("stories\nloss "));
  CHECK(says(text.out, "\n\nrows\nloss "));
}

TEST_CASE("evaluate: sets without a file or of one name, or none at all, are errors") {
  const TinyRun run;
  run.trained({"schedule.stop_step=1"});
  const std::string model = run.directory();
  const std::string text = run.folder().write("a.txt", story(20));
  for (const auto& [words, reason] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{model}, "--tokens"},
           {{model, "--tokens", text, "--set", "a", text}, "--set"},
           {{model, "--set", "a"}, "evaluate: --set a (names no file). Write --set NAME FILE"},
           {{model, "--set", "a", text, "--set", "a", text}, "there are two of this name"},
           {{model, "--set", "a", text, "--set", "b", text + "x"}, "a.txtx"}}) {
    const Finished finished = evaluate(words);
    INFO(finished.err);
    CHECK(finished.exit_code == 2);
    CHECK(count_lines(finished.err) == 1);
    CHECK(says(finished.err, reason));
  }
}

TEST_CASE("evaluate: the worst documents are shown by how they begin") {
  const TinyRun run;
  run.trained({"schedule.stop_step=5"});
  const std::string model = run.directory();
  const std::string good = run.folder().write("good.txt", "One day the fox saw the \"river\".\n");
  // A character of two bytes stands where the shown part ends.
  const std::string bad = run.folder().write("bad.txt", std::string(39, '~') + "\xC3\xA9 and more");
  const auto worst = evaluated({model, "--tokens", good, bad}).at("worst_documents");
  REQUIRE(worst.size() == 2);
  CHECK(worst[0].at("document") == 1);
  CHECK(worst[0].at("text") == std::string(39, '~') + "\xEF\xBF\xBD");
  CHECK(worst[1].at("text") == "One day the fox saw the \"river\".\n");
  const Finished text = evaluate({model, "--tokens", good, bad});
  CHECK(says(text.out, "\"One day the fox saw the \\\"river\\\".\\n\""));

  // In joined shards too, where documents are told apart by ends of text.
  const std::string set = run.folder().path() + "/set";
  const Finished prepared = normlab::test::run(
      {program("prepare"), "--tokenizer", "bytes", "--out", set, good, bad, good});
  INFO(prepared.err);
  REQUIRE(prepared.exit_code == 0);
  for (const std::string packing : {"concatenated", "padded"}) {
    INFO(packing);
    const auto found = evaluated(
        {model, "--packing", packing, "--sequence-length", "7", "--tokens", set + "/train-*.bin"});
    REQUIRE(found.at("worst_documents").size() == 3);
    for (const auto& document : found.at("worst_documents")) {
      const bool is_bad = document.at("document") == 1;
      CHECK((document.at("text").get<std::string>()[0] == '~') == is_bad);
    }
  }
  // And none where nothing says how tokens are written.
  const std::string shard = run.folder().path() + "/a.bin";
  write_shard(shard, std::vector<uint16_t>{65, 66, 67, 68, 69, 70});
  const TinyRun untold({"data.grammar=null", "data.train=[" + shard + "]", "data.sequence_length=4",
                        "batch.tokens_per_step=8", "batch.micro_batch=1", "schedule.stop_step=1"});
  untold.trained();
  CHECK(!evaluated({untold.directory(), "--tokens", shard})
             .at("worst_documents")[0]
             .contains("text"));
  CHECK(evaluated({untold.directory(), "--tokens", shard, "--tokenizer", "bytes"})
            .at("worst_documents")[0]
            .at("text") == "ABCDEF");
}

TEST_CASE("evaluate: masked ends of text are left out of every number and nothing else is") {
  const TinyRun run;
  run.trained({"schedule.stop_step=20"});
  std::vector<std::string> command = {run.directory(), "--packing", "padded", "--tokens"};
  constexpr int64_t kDocuments = 5, kLength = 24;
  for (int64_t i = 0; i < kDocuments; ++i) {
    const std::string text = story(9).substr(static_cast<size_t>(7 * i), kLength);
    command.push_back(run.folder().write(std::to_string(i) + ".txt", text));
  }
  const auto loss_of = [&](const std::string& length, const std::string& mask) {
    std::vector<std::string> words = command;
    words.insert(words.end(), {"--sequence-length", length, mask});
    return evaluated(words);
  };
  const auto scored = loss_of("24", "--no-mask-eot-targets");
  const auto masked = loss_of("24", "--mask-eot-targets");
  // A row a token shorter ends before the end of text is a target.
  const auto shorter = loss_of("23", "--no-mask-eot-targets");
  CHECK(scored.at("tokens") == kDocuments * kLength);
  CHECK(masked.at("tokens") == kDocuments * (kLength - 1));
  for (const char* key : {"loss", "perplexity", "median"}) {
    INFO(key);
    CHECK(masked.at(key).get<double>() == Approx(shorter.at(key).get<double>()).epsilon(1e-5));
    CHECK(masked.at(key).get<double>() != Approx(scored.at(key).get<double>()).epsilon(1e-5));
  }
}
