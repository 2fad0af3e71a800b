#include "engine/metrics.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/config_names.h"
#include "engine/files.h"
#include "kernels/error.h"

namespace normlab {
namespace {

using nlohmann::ordered_json;

// JSON has no NaN or infinity: those are null.
ordered_json number(double value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
}

// The one set of a run that names none.
bool is_unnamed(const std::map<std::string, double>& losses) {
  return losses.size() == 1 && losses.begin()->first == "validation";
}

ordered_json by_set(const std::map<std::string, double>& values) {
  if (is_unnamed(values)) return number(values.begin()->second);
  ordered_json out;
  for (const auto& [name, value] : values) out[name] = number(value);
  return out;
}

void add_validation(ordered_json& out, const MetricsRow& row) {
  if (!row.validation_loss.empty()) out["validation_loss"] = by_set(row.validation_loss);
  if (!row.ppl_cod.empty()) out["ppl_cod"] = by_set(row.ppl_cod);
}

void add_validation(std::vector<Scalar>& scalars, const MetricsRow& row) {
  const auto add = [&](const std::string& group, const char* unnamed,
                       const std::map<std::string, double>& values) {
    for (const auto& [name, value] : values) {
      scalars.push_back({group + "/" + (is_unnamed(values) ? unnamed : name), value});
    }
  };
  add("validation", "loss", row.validation_loss);
  add("ppl_cod", "validation", row.ppl_cod);
}

// By their names in a row; each has one number a layer.
std::map<std::string, std::vector<double>> named(const LayerDiagnostics& diagnostics) {
  return {{"output_variance", diagnostics.output_variance},
          {"angular_distance", diagnostics.angular_distance},
          {"gradient_norm", diagnostics.gradient_norm},
          {"update_ratio", diagnostics.update_ratio}};
}

ordered_json diagnostics_json(const LayerDiagnostics& diagnostics) {
  ordered_json out;
  for (const auto& [name, layers] : named(diagnostics)) {
    for (const double value : layers) out[name].push_back(number(value));
  }
  return out;
}

void add_scalars(std::vector<Scalar>& scalars, const LayerDiagnostics& diagnostics) {
  for (const auto& [name, layers] : named(diagnostics)) {
    for (size_t layer = 0; layer < layers.size(); ++layer) {
      scalars.push_back({name + "/" + std::to_string(layer), layers[layer]});
    }
  }
}

// Whether a run that goes on from this step and place in the data does again what the row is about.
bool is_undone(const ordered_json& row, int64_t step, int64_t data_position) {
  if (row.contains("event") && row["event"].contains("data_position")) {
    return row["event"]["data_position"] > data_position;
  }
  const int64_t row_step = row.value("step", int64_t{0});
  const bool removal = row.contains("event") && row["event"].contains("site");
  return row_step > step || (removal && row_step == step);
}

}  // namespace

Metrics::Metrics(const std::string& directory, int64_t step, int64_t data_position)
    : directory_(directory), path_(directory + "/metrics.jsonl"), events_(directory, step) {
  if (std::filesystem::exists(path_)) read_and_mark(step, data_position);
  file_.open(path_, std::ios::app);
  if (!file_) throw Error(path_ + ": cannot be written");
}

void Metrics::read_and_mark(int64_t step, int64_t data_position) {
  const std::string content = read_file(path_);
  bool changed = !content.empty() && content.back() != '\n';
  std::string result;
  std::istringstream lines(content);
  for (std::string line; std::getline(lines, line);) {
    ordered_json row = ordered_json::parse(line, nullptr, false);
    if (row.is_discarded() || !row.is_object()) {
      changed = true;
      continue;
    }
    const int64_t row_step = row.value("step", int64_t{0});
    if (is_undone(row, step, data_position) && !row.contains("discarded")) {
      row["discarded"] = true;
      changed = true;
    }
    if (row_step == step && row.contains("validation_loss") && !row.contains("discarded")) {
      evaluated_ = true;
    }
    result += row.dump() + "\n";
  }
  if (changed) write_file_atomically(path_, result);
}

void Metrics::append(const std::string& line) {
  file_ << line << "\n" << std::flush;
  if (file_) return;
  throw Error(path_ + ": cannot be written (" + std::strerror(errno) +
              "). See to its disk and permissions, and run the same command again");
}

void Metrics::write(const MetricsRow& row) {
  ordered_json out = {{"step", row.step},
                      {"tokens", row.tokens},
                      {"loss", number(row.loss)},
                      {"learning_rate", row.learning_rate},
                      {"grad_norm", number(row.gradient_norm)},
                      {"tokens_per_second", number(row.tokens_per_second)},
                      {"seconds", number(row.seconds)}};
  add_validation(out, row);
  if (row.auxiliary_loss) out["auxiliary_loss"] = number(*row.auxiliary_loss);
  for (const auto& [site, std] : row.norm_std) out["norm_std"][site] = number(std);
  if (row.diagnostics) out["diagnostics"] = diagnostics_json(*row.diagnostics);
  append(out.dump());
  std::vector<Scalar> scalars = {{"train/loss", row.loss},
                                 {"train/learning_rate", row.learning_rate},
                                 {"train/gradient_norm", row.gradient_norm},
                                 {"train/tokens_per_second", row.tokens_per_second}};
  add_validation(scalars, row);
  if (row.auxiliary_loss) scalars.push_back({"train/auxiliary_loss", *row.auxiliary_loss});
  for (const auto& [site, std] : row.norm_std) scalars.push_back({"norm_std/" + site, std});
  if (row.diagnostics) add_scalars(scalars, *row.diagnostics);
  events_.write(row.step, scalars);
}

void Metrics::write_validation(const MetricsRow& row) {
  ordered_json out = {{"step", row.step}};
  add_validation(out, row);
  append(out.dump());
  std::vector<Scalar> scalars;
  add_validation(scalars, row);
  events_.write(row.step, scalars);
}

void Metrics::write_event(int64_t step, const std::string& kind, const std::string& text) {
  append(ordered_json{{"step", step}, {"event", {{"kind", kind}, {"text", text}}}}.dump());
}

void Metrics::write_removal(const RemovalEvent& event, double std) {
  const ordered_json json = {
      {"kind", name_of(event.kind, removal_event_names)},
      {"site", name_of(event.role, norm_role_names)},
      {"layer", event.layer < 0 ? ordered_json() : ordered_json(event.layer)},
      {"std", number(std)}};
  append(ordered_json{{"step", event.step}, {"event", json}}.dump());
}

void Metrics::write_skipped_step(int64_t step, int64_t data_position, const std::string& text) {
  const ordered_json event = {
      {"kind", "skipped_step"}, {"text", text}, {"data_position", data_position}};
  append(ordered_json{{"step", step}, {"event", event}}.dump());
}

void Metrics::sync() const {
  sync_file(path_);
  events_.sync();
  sync_directory(directory_);
}

std::map<int64_t, RecordedStep> recorded_steps(const std::string& run_directory) {
  std::map<int64_t, RecordedStep> steps;
  const std::string path = run_directory + "/metrics.jsonl";
  if (!std::filesystem::exists(path)) return steps;
  std::istringstream lines(read_file(path));
  for (std::string line; std::getline(lines, line);) {
    const ordered_json row = ordered_json::parse(line, nullptr, false);
    if (!row.is_object() || row.contains("discarded")) continue;
    const auto loss = row.find("loss"), gradient_norm = row.find("grad_norm");
    if (loss == row.end() || gradient_norm == row.end()) continue;
    if (!loss->is_number() || !gradient_norm->is_number()) continue;
    steps[row.value("step", int64_t{0})] = {*loss, *gradient_norm};
  }
  return steps;
}

}  // namespace normlab
