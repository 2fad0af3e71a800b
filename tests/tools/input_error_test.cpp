// What is wrong with the input: exit code 2, one line that says where, what, why and what to do,
// and nothing left behind.
#include "catch.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

namespace {

void check_rejected(const TinyRun& run, const Overrides& overrides,
                    const std::vector<std::string>& parts) {
  const Finished finished = run.train(overrides);
  INFO(finished.err);
  CHECK(finished.exit_code == 2);
  CHECK(finished.err.starts_with("train: "));
  CHECK(count_lines(finished.err) == 1);
  CHECK(finished.out.empty());
  for (const std::string& part : parts) {
    INFO(part);
    CHECK(finished.err.find(part) != std::string::npos);
  }
  CHECK(tree_of(run.directory()).empty());
}

Overrides text_data(const std::string& file) {
  return {"data.grammar=null", "data.text=[" + file + "]"};
}

}  // namespace

TEST_CASE("train: texts that cannot be trained on are named") {
  const TinyRun run;
  const std::string missing = run.folder().path() + "/none.txt";
  const std::string empty = run.folder().write("empty.txt", "");
  check_rejected(run, text_data(missing), {missing, "no such file"});
  check_rejected(run, text_data(empty), {empty, "empty"});
  check_rejected(run, text_data(run.folder().path()), {run.folder().path(), "directory"});
}

TEST_CASE("train: shards that are none are named") {
  const TinyRun run;
  const std::string shard = run.folder().write("a.bin", std::string(2000, 'x'));
  check_rejected(run, {"data.grammar=null", "data.train=[" + shard + "]"}, {shard});
}

TEST_CASE("train: shapes that cannot be are named with their key") {
  const TinyRun run;
  check_rejected(run, {"model.width=33"}, {"model.width = 33", "model.heads = 2"});
  check_rejected(run, {"model.vocabulary=100"}, {"model.vocabulary = 100", "256"});
  check_rejected(run, {"model.context=16"}, {"context", "16", "data.sequence_length = 32"});
  check_rejected(run, {"model.size=enormous"}, {"model.size = enormous", "small, medium"});
}

TEST_CASE("train: an unknown key is named with its place and the nearest known") {
  const TinyRun run;
  check_rejected(run, {"optimizer.learning_rat=1"},
                 {"command line", "learning_rat", "learning_rate"});
  std::ofstream(run.recipe(), std::ios::app) << "guard: {nonfinite_step: 3}\n";
  check_rejected(run, {}, {run.recipe() + ":9", "nonfinite_step", "nonfinite_steps"});
}

TEST_CASE("train: the command line is checked") {
  const TinyRun run;
  check_rejected(run, {"--bogus"}, {"--bogus", "--help"});
  check_rejected(run, {"--json"}, {"--json", "--dry-run"});
  check_rejected(run, {"learning_rate"}, {"learning_rate", "section.key=value"});
  const Finished none = normlab::test::run({program("train")});
  CHECK(none.exit_code == 2);
  const Finished missing = normlab::test::run({program("train"), "none.yaml"});
  CHECK(missing.exit_code == 2);
  CHECK(missing.err.find("none.yaml") != std::string::npos);
}

TEST_CASE("train: model.from of another family or of nothing is refused") {
  const TinyRun from;
  from.trained({"schedule.stop_step=2"});
  const TinyRun run;
  const Overrides alone = {"model.layers=null", "model.width=null", "model.heads=null",
                           "model.context=null"};
  Overrides wrong = alone;
  wrong.push_back("model.from=" + run.folder().path());
  check_rejected(run, wrong, {run.folder().path(), "config.json"});
  Overrides other_family = alone;
  other_family.insert(other_family.end(), {"model.from=" + from.directory(), "model.family=llama"});
  check_rejected(run, other_family, {"model.family = llama", "gpt2"});
  Overrides longer = alone;
  longer.insert(longer.end(), {"model.from=" + from.directory(), "data.sequence_length=64"});
  check_rejected(run, longer, {"data.sequence_length = 64", "32"});
}
