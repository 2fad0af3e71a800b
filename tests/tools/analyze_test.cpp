// analyze depth: files, numbers and errors of the program.
#include <filesystem>

#include "catch.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;
using nlohmann::json;

namespace {

Finished analyze(const std::vector<std::string>& words) {
  std::vector<std::string> command = {program("analyze")};
  command.insert(command.end(), words.begin(), words.end());
  return normlab::test::run(command);
}

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("analyze depth: writes a page and its numbers, of which the loss is evaluate's") {
  const TinyRun run;
  run.trained({"schedule.stop_step=20"});
  const std::string text = run.folder().write("a.txt", story(30));
  const std::string out = run.folder().path() + "/new/depth";
  const Finished finished =
      analyze({"depth", run.directory(), "--tokens", text, "--out", out, "--json"});
  INFO(finished.err);
  REQUIRE(finished.exit_code == 0);
  CHECK(finished.out == content(out + "/depth.json"));
  CHECK(says(finished.err, "written: " + out + "/depth.html"));
  CHECK(content(out + "/depth.html").starts_with("<!DOCTYPE html>"));

  const json depth = json::parse(finished.out);
  const Finished evaluated = normlab::test::run(
      {program("evaluate"), run.directory(), "--tokens", text, "--json", "--precision", "fp32"});
  const json evaluation = json::parse(evaluated.out);
  CHECK(depth.at("targets") == evaluation.at("tokens"));
  CHECK(depth.at("loss").get<double>() ==
        Approx(evaluation.at("loss").get<double>()).epsilon(1e-6));
  CHECK(depth.at("layers") == 2);
  CHECK(depth.at("variance").size() == 3);
  CHECK(depth.at("angular_distance").size() == 2);
  CHECK(depth.at("angular_distance")[0].size() == 2);
  for (size_t layer = 0; layer < 2; ++layer) {
    const double drop = depth.at("loss_drop")[layer];
    CHECK(drop == depth.at("loss_without")[layer].get<double>() - depth.at("loss").get<double>());
  }
  CHECK(depth.at("jacobian").at("token_mean").size() == 2);
  CHECK(depth.at("recursion_pre").at("variances").size() == 2);
}

TEST_CASE("analyze depth: the same command prints the same, another seed another Jacobian") {
  const TinyRun run;
  run.trained({"schedule.stop_step=5"});
  const std::string text = run.folder().write("a.txt", story(10));
  const auto printed = [&](std::vector<std::string> more) {
    std::vector<std::string> words = {"depth", run.directory(), "--tokens", text};
    words.insert(words.end(), more.begin(), more.end());
    const Finished finished = analyze(words);
    INFO(finished.err);
    REQUIRE(finished.exit_code == 0);
    return finished.out;
  };
  const std::string table = printed({});
  CHECK(count_lines(table) == 5);  // the loss, two lines of heads, two layers
  CHECK(says(table, "|J - I|"));
  CHECK(printed({"--threads", "1"}) == table);
  CHECK(printed({"--seed", "9"}) != table);
  CHECK(says(printed({"--most-tokens", "64"}), " over 64 targets"));
  CHECK(!says(printed({"--projections", "0"}), "|J - I|"));
  CHECK(!says(printed({"--projections", "0", "--precision", "bf16"}), "|J - I|"));
}

TEST_CASE("analyze: what is wrong is one line that says what there is") {
  const TinyRun run;
  run.trained({"schedule.stop_step=1"});
  const std::string model = run.directory();
  const std::string text = run.folder().write("a.txt", story(10));
  const std::string file = run.folder().write("file", "");
  for (const auto& [words, reason] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"breadth", model, "--tokens", text}, "depth"},
           {{}, "what"},
           {{"depth"}, "model"},
           {{"depth", model}, "no tokens to look at. Name their files with --tokens FILE"},
           {{"depth", model + "x", "--tokens", text}, "runx"},
           {{"depth", model, "--tokens", text + "x"}, "a.txtx"},
           {{"depth", model, "--tokens", text, "--sequence-length", "33"},
            "--sequence-length 33 (the model's context is 32"},
           {{"depth", model, "--tokens", text, "--precision", "bf16"}, "--projections 0"},
           {{"depth", model, "--tokens", text, "--out", file}, file}}) {
    const Finished finished = analyze(words);
    INFO(finished.err);
    CHECK(finished.exit_code == 2);
    CHECK(count_lines(finished.err) == 1);
    CHECK(finished.out == "");
    CHECK(says(finished.err, reason));
  }
}
