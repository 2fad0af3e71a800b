// diagnostics.every: what is said of the layers while a run goes on, and that the run is the same.
#include <cmath>

#include "catch.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

TEST_CASE("diagnostics: a run with them ends in the bits of a run without") {
  const Overrides kind =
      GENERATE(Overrides{}, Overrides{"parallel.reproducible=true", "parallel.shards=2"},
               Overrides{"run.precision=bf16"},
               Overrides{"norm_removal.mlp={start: 5, gap: 2, momentum: 0.2}"});
  CAPTURE(kind);
  Overrides all = kind;
  all.push_back("schedule.stop_step=20");
  const TinyRun with(all), without(all);
  with.trained({"diagnostics.every=3"});
  without.trained();
  CHECK(different_files(with.checkpoint(20), without.checkpoint(20)).empty());
  for (const auto& row : without.metrics()) CHECK(!row.contains("diagnostics"));
}

TEST_CASE("diagnostics: on the emulated GPU they change no bit either") {
  const Overrides all = {"schedule.stop_step=6", "run.device=cuda"};
  const TinyRun with(all, "train_emulated"), without(all, "train_emulated");
  with.trained({"diagnostics.every=2"});
  without.trained();
  CHECK(different_files(with.checkpoint(6), without.checkpoint(6)).empty());
  CHECK(with.metrics()[3].at("diagnostics").at("update_ratio")[0] > 0);
}

TEST_CASE("diagnostics: every so many steps a row says four numbers of each layer") {
  const TinyRun run({"schedule.stop_step=20", "diagnostics.every=4"});
  run.trained();
  const auto rows = run.metrics();
  REQUIRE(rows.size() == 20);
  for (const auto& row : rows) {
    const int64_t step = row.at("step");
    INFO(row.dump());
    REQUIRE(row.contains("diagnostics") == (step % 4 == 0));
    if (step % 4 != 0) continue;
    const auto& diagnostics = row.at("diagnostics");
    CHECK(diagnostics.size() == 4);
    for (const char* name :
         {"output_variance", "angular_distance", "gradient_norm", "update_ratio"}) {
      INFO(name);
      REQUIRE(diagnostics.at(name).size() == 2);
      for (const auto& number : diagnostics.at(name)) CHECK(number.get<double>() > 0);
    }
    CHECK(diagnostics.at("output_variance")[1] > diagnostics.at("output_variance")[0]);
    // What is left of the whole gradient is that of the embeddings and the final norm.
    double squares = 0;
    for (const double norm : diagnostics.at("gradient_norm")) squares += norm * norm;
    const double whole = row.at("grad_norm");
    CHECK(squares < whole * whole);
  }
}

TEST_CASE("diagnostics: a run may go on with others than it began with") {
  const TinyRun run;
  run.trained({"schedule.stop_step=10"});
  run.trained({"schedule.stop_step=12", "diagnostics.every=1"});
  CHECK(run.metrics().back().contains("diagnostics"));
}
