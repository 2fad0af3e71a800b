// Runs that are disturbed while norms are removed, or fade out, end in the same bytes as others.
#include <csignal>

#include "catch.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

namespace {

struct Case {
  std::string name;
  Overrides overrides;
};

// Norms go from step 6 to step 34, σ follows from the first.
std::vector<Case> removals() {
  const std::string mlp_and_keys =
      "mlp: {start: 6, gap: 3, momentum: 0.3}, attention_qk: {start: 12, gap: 4, momentum: 0.2}, ";
  const std::string rest =
      "final: {start: 34, momentum: 0.4}, auxiliary_loss_weight: 0.1, auxiliary_group: 2";
  return {{"shared std",
           {"norm_removal={" + mlp_and_keys + "attention_v: {start: 22, gap: 5}, " + rest + "}"}},
          {"separate stds that fade out",
           {"norm_removal={" + mlp_and_keys +
            "attention_v: {start: 22, gap: 5, momentum: 0.6}, std: separate, method: taper, "
            "taper_steps: 5, " +
            rest + "}"}},
          {"rmsnorm",
           {"model.family=llama",
            "norm_removal={" + mlp_and_keys + "attention_v: {start: 22, gap: 5}, " + rest + "}"}}};
}

std::string step(int64_t number) { return "schedule.stop_step=" + std::to_string(number); }

// Rows that count, without what a clock says.
std::vector<nlohmann::json> history(const TinyRun& run) {
  std::vector<nlohmann::json> rows;
  for (nlohmann::json row : run.metrics()) {
    if (row.contains("discarded")) continue;
    if (row.contains("event") && row["event"].at("kind") == "resume") continue;
    row.erase("seconds");
    row.erase("tokens_per_second");
    rows.push_back(row);
  }
  return rows;
}

// Evaluations at a stop_step that is no multiple of evaluation.every are the stopped run's own, and
// one that a stop cut short has a row to itself.
std::vector<nlohmann::json> without_evaluation(std::vector<nlohmann::json> rows) {
  for (nlohmann::json& row : rows) row.erase("validation_loss");
  std::erase_if(rows, [](const nlohmann::json& row) { return row.size() == 1; });
  return rows;
}

void check_same_end(const TinyRun& disturbed, const TinyRun& undisturbed) {
  CHECK(different_files(disturbed.checkpoint(60), undisturbed.checkpoint(60)) ==
        std::vector<std::string>{});
  CHECK(without_evaluation(history(disturbed)) == without_evaluation(history(undisturbed)));
}

}  // namespace

TEST_CASE("train: a removal interrupted anywhere goes on bit for bit") {
  for (const auto& [name, overrides] : removals()) {
    INFO(name);
    const TinyRun whole(overrides);
    whole.trained();
    // Before it begins, as the first norm goes, keys gone and values not, values going, and in the
    // last norm's fading.
    for (const int64_t edge : {3, 6, 14, 24, 36}) {
      INFO("stopped at step " << edge);
      const TinyRun parted(overrides);
      parted.trained({step(edge)}).trained();
      check_same_end(parted, whole);
    }
  }
}

TEST_CASE("train: a run killed and stopped inside its removal ends in the same bytes") {
  for (const auto& [name, overrides] : removals()) {
    INFO(name);
    Overrides saving = overrides;
    saving.push_back("checkpoint.every=2");
    const TinyRun whole(saving), killed(saving);
    whole.trained();
    for (const auto& [lines, number] : std::vector<std::pair<int64_t, int>>{
             {8, SIGKILL}, {15, SIGTERM}, {21, SIGKILL}, {29, SIGTERM}, {41, SIGKILL}}) {
      Process process(killed.command());
      const std::string metrics = killed.directory() + "/metrics.jsonl";
      process.wait_until([&] { return count_lines(content(metrics)) >= lines; });
      process.signal(number);
      // On a machine that is suddenly faster the last one may come too late.
      const int exit_code = process.wait().exit_code;
      CHECK((exit_code == (number == SIGKILL ? 128 + SIGKILL : 75) || exit_code == 0));
    }
    killed.trained();
    check_same_end(killed, whole);
  }
}
