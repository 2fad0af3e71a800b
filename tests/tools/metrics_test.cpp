// metrics.jsonl and log.txt: the record of a run, disturbed or not.
#include <cmath>
#include <csignal>

#include "catch.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

TEST_CASE("metrics.jsonl: a row a step with the keys of the contract") {
  const TinyRun run;
  run.trained();
  const auto rows = run.metrics();
  REQUIRE(rows.size() == 60);
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto& row = rows[i];
    INFO(row.dump());
    CHECK(row.at("step") == i + 1);
    CHECK(row.at("tokens") == (i + 1) * 256);
    for (const char* key : {"loss", "learning_rate", "grad_norm", "tokens_per_second", "seconds"}) {
      CHECK(row.at(key).is_number());
    }
    CHECK(row.contains("validation_loss") == ((i + 1) % 10 == 0));
  }
  CHECK(rows[0].at("learning_rate") == 0);       // of 4 warm-up steps
  CHECK(rows[2].at("learning_rate") == 0.0015);  // 2/4 of 0.003
  CHECK(rows[0].at("loss").get<double>() == Approx(std::log(257)).epsilon(0.02));
  CHECK(rows[59].at("loss") < rows[0].at("loss"));
  CHECK(rows[59].at("validation_loss") < rows[9].at("validation_loss"));
}

TEST_CASE("metrics.jsonl: tokens are those of completed steps") {
  const TinyRun run;
  run.trained({"schedule.stop_step=10"});
  // As where one step's data had been skipped.
  edit_state(run.checkpoint(10), [](auto& state) {
    state["data_position"] = state["data_position"].template get<int64_t>() + 8;
  });
  run.trained({"schedule.stop_step=11"});
  CHECK(run.metrics().back().at("step") == 11);
  CHECK(run.metrics().back().at("tokens") == 11 * 256);
}

TEST_CASE("train: says once how many tokens of each validation set are scored") {
  const TinyRun run({"data.grammar=null", "evaluation.every=5", "schedule.stop_step=10"});
  const std::string text = run.folder().write("a.txt", story(100));
  const Overrides sets = {"data.text=[" + text + "]",
                          "data.validation={one: [" + text + "], other: [" + text + "]}"};
  Overrides capped = sets;
  capped.push_back("evaluation.tokens=100");
  // To the end of a pass of 4 sequences of 32.
  const Finished finished = run.train(capped);
  INFO(finished.err);
  REQUIRE(finished.exit_code == 0);
  for (const std::string name : {"one", "other"}) {
    const std::string line = "evaluation: 128 tokens of " + name + " are scored (it has ";
    const size_t place = finished.err.find(line);
    CHECK(place != std::string::npos);
    CHECK(finished.err.find(line, place + 1) == std::string::npos);
    CHECK(content(run.directory() + "/log.txt").find(line) != std::string::npos);
  }
}

TEST_CASE("metrics.jsonl: is on the disk before the checkpoint has its name") {
  const TinyRun run({"schedule.total_steps=10"});
  std::vector<std::string> traced = run.command();
  const std::string trace = run.folder().path() + "/trace";
  traced.insert(traced.begin(), {"strace", "-f", "-y", "-e", "trace=fsync,rename", "-o", trace});
  if (normlab::test::run(traced).exit_code != 0) {
    WARN("strace is not there, or may not trace: the order was not tested");
    return;
  }
  const std::string calls = content(trace);
  const size_t synced = calls.find("/metrics.jsonl>) = 0");
  REQUIRE(synced != std::string::npos);
  CHECK(synced < calls.find("/.partial-step-00000010\""));
  const size_t events_synced = calls.find(".normlab>) = 0");
  REQUIRE(events_synced != std::string::npos);
  CHECK(events_synced < calls.find("/.partial-step-00000010\""));
}

TEST_CASE("metrics.jsonl: named validation sets are reported by name") {
  const TinyRun run({"data.grammar=null", "schedule.stop_step=2"});
  const std::string text = run.folder().write("a.txt", story(100));
  const Finished finished = run.train(
      {"data.text=[" + text + "]", "data.validation={one: [" + text + "], other: [" + text + "]}",
       "evaluation.reference_batch=3"});
  INFO(finished.err);
  REQUIRE(finished.exit_code == 0);
  const auto losses = run.metrics().back().at("validation_loss");
  CHECK(losses.at("one").is_number());
  CHECK(losses.at("one") == losses.at("other"));
  CHECK(run.metrics().back().at("ppl_cod").at("one").is_number());
  CHECK(finished.err.find("other loss ") != std::string::npos);
}

TEST_CASE("metrics.jsonl: rows that a resume discards are marked and a torn line is dropped") {
  const TinyRun run({"schedule.total_steps=1000000", "checkpoint.every=20"});
  Process process(run.command());
  const std::string file = run.directory() + "/metrics.jsonl";
  REQUIRE(process.wait_until([&] { return count_lines(content(file)) >= 30; }));
  process.signal(SIGKILL);
  process.wait();
  const int64_t saved = std::stoll(run.checkpoints().back().substr(5));
  const int64_t reached = count_lines(content(file));
  std::ofstream(file, std::ios::app) << R"({"step":999,"tok)";
  const std::string stop = "schedule.stop_step=" + std::to_string(saved + 2);
  REQUIRE(run.train({stop}).exit_code == 0);
  int64_t discarded = 0, events = 0, counted = 0;
  for (const auto& row : run.metrics()) {
    INFO(row.dump());
    if (row.contains("discarded")) {
      CHECK(row.at("discarded") == true);
      CHECK(row.at("step") > saved);
      ++discarded;
    } else if (row.contains("event")) {
      CHECK(row.at("event").at("kind") == "resume");
      CHECK(row.at("step") == saved);
      ++events;
    } else {
      CHECK(row.at("step") == ++counted);
    }
  }
  CHECK(discarded == reached - saved);
  CHECK(events == 1);
  CHECK(counted == saved + 2);
}

TEST_CASE("log.txt: says when what began, was evaluated and ended") {
  const TinyRun run;
  run.trained({"schedule.stop_step=20"}).trained({"schedule.stop_step=40"});
  const std::string log = content(run.directory() + "/log.txt");
  INFO(log);
  CHECK(log.starts_with("20"));  // a date
  for (const char* part : {"device: CPU", "step 10/20", "step 20/20", "finished at step 20",
                           "going on from", "step 30/40", "finished at step 40"}) {
    INFO(part);
    CHECK(log.find(part) != std::string::npos);
  }
  CHECK(log.find('\r') == std::string::npos);
}

TEST_CASE("train: a loss that stays non-finite ends in exit code 5 with good checkpoints") {
  // Weights of 1e30 after the warm-up's first update, whose rate is 0.
  const TinyRun run({"optimizer.learning_rate=1e30", "optimizer.weight_decay=0",
                     "checkpoint.every=1", "guard.nonfinite_steps=4"});
  const Finished finished = run.train();
  INFO(finished.err);
  CHECK(finished.exit_code == 5);
  CHECK(finished.err.find("4 steps in a row") != std::string::npos);
  CHECK(finished.err.find("learning_rate") != std::string::npos);
  int64_t skipped = 0;
  for (const auto& row : run.metrics()) {
    if (row.contains("event")) skipped += row.at("event").at("kind") == "skipped_step";
  }
  CHECK(skipped == 4);
  CHECK(content(run.directory() + "/log.txt").find("4 steps in a row after") != std::string::npos);
  // The same steps, tried again, count once.
  CHECK(run.train().exit_code == 5);
  int64_t counted = 0, discarded = 0;
  for (const auto& row : run.metrics()) {
    if (!row.contains("event") || row.at("event").at("kind") != "skipped_step") continue;
    row.contains("discarded") ? ++discarded : ++counted;
    CHECK(row.at("step") == run.last_step());
  }
  CHECK(counted == 4);
  CHECK(discarded == 4);
  // What is saved is intact and of finite numbers: it can be evaluated.
  const Finished evaluated = normlab::test::run(
      {program("evaluate"), run.checkpoint(1), "--tokens", run.recipe(), "--json"});
  INFO(evaluated.err);
  REQUIRE(evaluated.exit_code == 0);
  CHECK(nlohmann::json::parse(evaluated.out).at("loss").is_number());
}
