#include "engine/metrics.h"

#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "catch.h"
#include "engine/files.h"
#include "event_records.h"
#include "kernels/error.h"
#include "temporary_folder.h"

using namespace normlab;
using namespace normlab::test;

namespace {

std::vector<nlohmann::json> rows_of(const TemporaryFolder& folder) {
  std::istringstream lines(read_file(folder.path() + "/metrics.jsonl"));
  std::vector<nlohmann::json> rows;
  for (std::string line; std::getline(lines, line);) rows.push_back(nlohmann::json::parse(line));
  return rows;
}

// Messages of the event files in the order of their names.
std::vector<std::string> events_of(const TemporaryFolder& folder) {
  std::set<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    const std::string name = entry.path().filename().string();
    if (name.find("tfevents") != std::string::npos) files.insert(entry.path().string());
  }
  std::vector<std::string> messages;
  for (const std::string& file : files) {
    for (const std::string& message : messages_of(read_file(file))) messages.push_back(message);
  }
  return messages;
}

bool holds(const std::string& message, const std::string& tag, float value) {
  std::string bytes = tag + "\x15";
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
  return message.find(static_cast<char>(tag.size()) + bytes) != std::string::npos;
}

}  // namespace

TEST_CASE("metrics: a skipped step is discarded where its data come after the checkpoint's") {
  const TemporaryFolder folder;
  {
    Metrics metrics(folder.path(), 0, 0);
    metrics.write({.step = 1, .validation_loss = {}});
    metrics.write_skipped_step(2, 16, "the run was stopped and saved after this one");
    metrics.write_skipped_step(2, 24, "and killed after this one");
    metrics.write({.step = 2, .validation_loss = {}});
    metrics.write_event(2, "rollback", "of a step that is undone");
  }
  const Metrics again(folder.path(), 1, 16);
  std::vector<bool> discarded;
  for (const auto& row : rows_of(folder)) discarded.push_back(row.contains("discarded"));
  CHECK(discarded == std::vector<bool>{false, false, true, true, true});
  CHECK(rows_of(folder)[1].at("step") == 2);  // the one that was tried
}

TEST_CASE("metrics: a removal names its site, and is discarded where its step comes again") {
  const TemporaryFolder folder;
  {
    Metrics metrics(folder.path(), 0, 0);
    metrics.write({.step = 4, .validation_loss = {}});
    metrics.write_removal({4, RemovalEventKind::remove, NormRole::mlp, 3}, 1.25);
    metrics.write({.step = 5,
                   .validation_loss = {},
                   .auxiliary_loss = 0.5,
                   .norm_std = {{"mlp.3", 1.25}, {"final", 2.5}}});
    metrics.write_removal({6, RemovalEventKind::taper, NormRole::final, -1}, 2.5);
  }
  const auto rows = rows_of(folder);
  const nlohmann::json removed = {{"kind", "remove"}, {"site", "mlp"}, {"layer", 3}, {"std", 1.25}};
  CHECK(rows[1] == nlohmann::json{{"step", 4}, {"event", removed}});
  CHECK(rows[2].at("auxiliary_loss") == 0.5);
  CHECK(rows[2].at("norm_std") == nlohmann::json{{"final", 2.5}, {"mlp.3", 1.25}});
  CHECK_FALSE(rows[0].contains("norm_std"));
  CHECK(rows[3].at("event").at("layer").is_null());
  CHECK(holds(events_of(folder)[3], "norm_std/mlp.3", 1.25f));
  // From the checkpoint of step 4 the removal at step 4 is done again.
  const Metrics again(folder.path(), 4, 0);
  std::vector<bool> discarded;
  for (const auto& row : rows_of(folder)) discarded.push_back(row.contains("discarded"));
  CHECK(discarded == std::vector<bool>{false, true, true, true});
}

TEST_CASE("metrics: rows that cannot be brought to the disk are an error") {
  const TemporaryFolder folder;
  std::filesystem::create_symlink("/dev/null", folder.path() + "/metrics.jsonl");
  const Metrics metrics(folder.path(), 0, 0);
  std::string message;
  try {
    metrics.sync();
  } catch (const Error& error) {
    message = error.what();
  }
  CHECK(message.starts_with(folder.path() + "/metrics.jsonl: cannot be synced (Invalid"));
  std::filesystem::remove(folder.path() + "/metrics.jsonl");
  folder.write("metrics.jsonl", "");
  metrics.sync();
}

TEST_CASE("metrics: diagnostics are lists by layer, and numbers by layer in the event file") {
  const TemporaryFolder folder;
  Metrics metrics(folder.path(), 0, 0);
  const LayerDiagnostics diagnostics{{1.5, 2.5}, {0.25, 0.125}, {3, 4}, {0.5, std::nan("")}};
  metrics.write({.step = 8, .validation_loss = {}, .diagnostics = diagnostics});
  metrics.write({.step = 9, .validation_loss = {}});
  const auto rows = rows_of(folder);
  CHECK(rows[0].at("diagnostics") == nlohmann::json{{"output_variance", {1.5, 2.5}},
                                                    {"angular_distance", {0.25, 0.125}},
                                                    {"gradient_norm", {3.0, 4.0}},
                                                    {"update_ratio", {0.5, nullptr}}});
  CHECK(!rows[1].contains("diagnostics"));
  const auto events = events_of(folder);
  CHECK(holds(events[2], "output_variance/1", 2.5f));
  CHECK(holds(events[2], "gradient_norm/0", 3.0f));
}

TEST_CASE("metrics: the numbers of rows go to an event file beside") {
  const TemporaryFolder folder;
  const double infinite = std::numeric_limits<double>::infinity();
  {
    Metrics metrics(folder.path(), 0, 0);
    metrics.write({.step = 1,
                   .tokens = 256,
                   .loss = 5.5,
                   .learning_rate = 0.001,
                   .gradient_norm = 2.25,
                   .tokens_per_second = 1000,
                   .seconds = 1,
                   .validation_loss = {{"validation", 6.5}},
                   .ppl_cod = {{"validation", 665}}});
    metrics.write_event(1, "resume", "is no number");
    metrics.write_skipped_step(2, 8, "nor is this");
  }
  {
    Metrics metrics(folder.path(), 1, 8);
    metrics.write_validation({.step = 1,
                              .validation_loss = {{"pile", infinite}, {"owt", 3}},
                              .ppl_cod = {{"owt", 20.5}}});
    metrics.sync();
  }
  const auto events = events_of(folder);
  REQUIRE(events.size() == 6);  // version, start, row; version, start, validation
  CHECK(events[1].ends_with(bytes_of("10 01 3a 02 08 01")));
  CHECK(holds(events[2], "train/loss", 5.5f));
  CHECK(holds(events[2], "train/learning_rate", 0.001f));
  CHECK(holds(events[2], "train/gradient_norm", 2.25f));
  CHECK(holds(events[2], "train/tokens_per_second", 1000.0f));
  CHECK(holds(events[2], "validation/loss", 6.5f));
  CHECK(holds(events[2], "ppl_cod/validation", 665.0f));
  CHECK(events[4].ends_with(bytes_of("10 02 3a 02 08 01")));
  CHECK(holds(events[5], "validation/owt", 3.0f));
  CHECK(holds(events[5], "ppl_cod/owt", 20.5f));
  CHECK(holds(events[5], "validation/pile", static_cast<float>(infinite)));
}
