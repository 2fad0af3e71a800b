// A run directory belongs to one configuration, one corpus and one process.
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "catch.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

namespace fs = std::filesystem;

namespace {

// Exit code 2, one line on stderr that begins with the program and has every part of `parts`.
void check_refused(const Finished& finished, const std::vector<std::string>& parts) {
  INFO(finished.err);
  CHECK(finished.exit_code == 2);
  CHECK(finished.err.starts_with("train: "));
  CHECK(count_lines(finished.err) == 1);
  for (const std::string& part : parts) {
    INFO(part);
    CHECK(finished.err.find(part) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("train: another configuration is refused with each key and both values") {
  const TinyRun run;
  run.trained({"schedule.stop_step=10"});
  const auto before = tree_of(run.directory());
  check_refused(
      run.train({"optimizer.learning_rate=0.5", "model.layers=3"}),
      {run.directory(), "optimizer.learning_rate", "0.003", "0.5", "model.layers", "2", "3"});
  CHECK(tree_of(run.directory()) == before);
}

TEST_CASE("train: a directory in use is refused with its process") {
  const TinyRun run({"schedule.total_steps=1000000"});
  Process first(run.command());
  REQUIRE(first.wait_until([&] { return fs::exists(run.directory() + "/metrics.jsonl"); }));
  check_refused(run.train(), {run.directory(), "in use", "process " + std::to_string(first.id())});
  first.signal(SIGTERM);
  CHECK(first.wait().exit_code == 75);
  CHECK(run.train({"schedule.stop_step=1"}).exit_code == 0);
}

TEST_CASE("train: --fresh takes an empty directory and refuses any other") {
  const TinyRun run;
  fs::create_directory(run.directory());
  CHECK(run.train({"--fresh", "schedule.stop_step=2"}).exit_code == 0);
  const auto before = tree_of(run.directory());
  check_refused(run.train({"--fresh"}), {run.directory(), "--fresh", "not empty"});
  CHECK(tree_of(run.directory()) == before);
}

TEST_CASE("train: a directory that cannot be written is refused") {
  const TinyRun run;
  const std::string file = run.folder().write("file", "");
  check_refused(run.train({"run.directory=" + file}), {file, "run.directory"});
  check_refused(run.train({"run.directory=" + file + "/below"}), {file, "run.directory"});
  if (geteuid() != 0) return;
  // Root may write everywhere: as somebody else.
  const auto as_nobody = [&](const std::string& directory) {
    std::vector<std::string> command = run.command({"run.directory=" + directory});
    command.insert(command.begin(),
                   {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"});
    return normlab::test::run(command);
  };
  fs::permissions(run.folder().path(), fs::perms(0755));
  if (as_nobody(run.directory()).exit_code == 127) {
    WARN("setpriv is not there: rights were not tested");
    return;
  }
  fs::create_directory(run.directory());
  fs::permissions(run.directory(), fs::perms(0755));
  check_refused(as_nobody(run.directory()), {run.directory(), "Permission denied"});
  fs::permissions(run.directory(), fs::perms(0700));
  check_refused(as_nobody(run.directory()), {run.directory(), "Permission denied"});
  check_refused(as_nobody(run.directory() + "/below"), {run.directory(), "Permission denied"});
}

TEST_CASE("train: other data under the same names are refused") {
  const TinyRun run({"data.grammar=null", "data.text=[TEXT]"});
  const std::string text = run.folder().write("a.txt", story(200));
  const std::string data = "data.text=[" + text + "]";
  REQUIRE(run.train({data, "schedule.stop_step=10"}).exit_code == 0);
  std::string other = story(200);
  other[100] = '?';
  run.folder().write("a.txt", other);
  const Finished finished = run.train({data});
  check_refused(finished, {"other data", run.checkpoint(10), "as many but others"});
  run.folder().write("a.txt", story(210));
  const std::string before = "training tokens then, ", now = " now)";
  check_refused(run.train({data}), {"other data", run.checkpoint(10), before, now});
  run.folder().write("a.txt", story(200));
  CHECK(run.train({data}).exit_code == 0);
}

TEST_CASE("train: a checkpoint of another configuration is refused and named") {
  const TinyRun run, other({"optimizer.learning_rate=0.5"});
  run.trained({"schedule.stop_step=10"});
  other.trained({"schedule.stop_step=20"});
  fs::rename(other.checkpoint(20), run.checkpoint(20));
  const auto before = tree_of(run.directory() + "/checkpoints");
  check_refused(run.train(), {run.checkpoint(20), "another configuration"});
  CHECK(tree_of(run.directory() + "/checkpoints") == before);
}

TEST_CASE("train: a checkpoint of other code is gone on from with a warning") {
  const TinyRun run;
  run.trained({"schedule.stop_step=10"});
  const Finished same = run.train({"schedule.stop_step=20"});
  CHECK(same.err.find("written by") == std::string::npos);
  edit_state(run.checkpoint(20), [](auto& state) { state["code"] = "0.0.9 (abc)"; });
  const Finished finished = run.train({"schedule.stop_step=30"});
  INFO(finished.err);
  CHECK(finished.exit_code == 0);
  CHECK(finished.err.find("warning: " + run.checkpoint(20) +
                          ": written by 0.0.9 (abc), this is ") != std::string::npos);
}

TEST_CASE("train: a checkpoint of a newer version or one that cannot be read stops it") {
  const TinyRun run;
  run.trained({"schedule.stop_step=20"});
  edit_state(run.checkpoint(20), [](auto& state) { state["schema"] = 2; });
  check_refused(run.train(), {run.checkpoint(20), "newer version", "schema 2"});
  edit_state(run.checkpoint(20), [](auto& state) { state["schema"] = 1; });
  const std::string weights = run.checkpoint(20) + "/model.safetensors";
  fs::rename(weights, weights + ".kept");
  fs::create_symlink("model.safetensors", weights);
  const Finished finished = run.train();
  INFO(finished.err);
  CHECK(finished.exit_code == 1);
  CHECK(finished.err.find(weights + ": cannot be read") != std::string::npos);
  CHECK(run.checkpoints() == std::vector<std::string>{"step-00000010", "step-00000020"});
  fs::rename(weights + ".kept", weights);
  CHECK(run.train().exit_code == 0);
}

TEST_CASE("train: checkpoints without a config.yaml are not taken for this run's") {
  const TinyRun run;
  run.trained({"schedule.stop_step=10"});
  fs::remove(run.directory() + "/config.yaml");
  check_refused(run.train(), {run.directory(), "config.yaml"});
}

TEST_CASE("train: after a start that failed the corrected command runs") {
  const TinyRun run;
  const std::string missing = run.folder().path() + "/none.txt";
  const Overrides wrong = {"data.grammar=null", "data.text=[" + missing + "]"};
  check_refused(run.train(wrong), {missing});
  CHECK(tree_of(run.directory()).empty());
  CHECK(run.train({"--fresh"}).exit_code == 0);
  // Nor does an existing run take harm.
  const auto before = tree_of(run.directory());
  CHECK(run.train(wrong).exit_code == 2);
  CHECK(tree_of(run.directory()) == before);
}

TEST_CASE("train: what a start that was killed leaves is taken for an empty directory") {
  for (const Overrides& way : {Overrides{}, Overrides{"--fresh"}}) {
    const TinyRun run({"schedule.stop_step=1"});
    fs::create_directories(run.directory() + "/checkpoints");
    std::ofstream(run.directory() + "/.lock") << "12345";
    std::ofstream(run.directory() + "/log.txt") << "";
    const Finished finished = run.train(way);
    INFO(finished.err);
    CHECK(finished.exit_code == 0);
  }
}
