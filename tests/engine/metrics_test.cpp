#include "engine/metrics.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "catch.h"
#include "engine/files.h"
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
