// metrics.jsonl: one JSON object a line; and the same numbers beside it for TensorBoard.
#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <optional>
#include <string>

#include "engine/analysis/step_diagnostics.h"
#include "engine/event_file.h"
#include "engine/removal_schedule.h"

namespace normlab {

struct MetricsRow {
  int64_t step = 0;    // completed updates
  int64_t tokens = 0;  // of the completed updates in all
  double loss = 0;     // of the step, nats per target
  double learning_rate = 0;
  double gradient_norm = 0;  // before clipping
  double tokens_per_second = 0;
  double seconds = 0;                             // of training in this process
  std::map<std::string, double> validation_loss;  // by set, where evaluated
  // EvaluationResult::reference_perplexity, by set; empty where there is none.
  std::map<std::string, double> ppl_cod = {};
  // Where norms are removed: the auxiliary loss, weighed, and the σ of each site ("mlp.0").
  std::optional<double> auxiliary_loss = {};
  std::map<std::string, double> norm_std = {};
  std::optional<LayerDiagnostics> diagnostics = {};  // of the steps that diagnostics.every names
};

class Metrics {
 public:
  // Opens DIRECTORY/metrics.jsonl to append. Rows of steps after `step` (a run that was killed
  // after its last checkpoint) are marked "discarded": true, never lost; a line that the killed
  // process left half written is dropped. A skipped step is discarded where its data come after
  // `data_position`: they are taken again. Numbers of rows also go to an event file beside, under
  // train/loss, train/learning_rate, train/gradient_norm, train/tokens_per_second, and
  // validation/NAME by set (validation/loss of a run whose one set has no name), ppl_cod/NAME;
  // diagnostics under output_variance/LAYER and so on.
  Metrics(const std::string& directory, int64_t step, int64_t data_position);
  void write(const MetricsRow& row);
  // Whether a row of the step that the constructor was given has a validation loss.
  bool evaluated() const { return evaluated_; }
  // A row for an evaluation (validation_loss, ppl_cod) that its step's own row came too early for.
  void write_validation(const MetricsRow& row);
  // {"step": …, "event": {"kind": "remove", "site": "mlp", "layer": 3, "std": 1.5}}; discarded
  // where a run goes on from this step, which then comes again.
  void write_removal(const RemovalEvent& event, double std);
  // {"step": …, "event": {"kind": kind, "text": text}}
  void write_event(int64_t step, const std::string& kind, const std::string& text);
  // An event "skipped_step" of the step that was tried, with the data's position behind it.
  void write_skipped_step(int64_t step, int64_t data_position, const std::string& text);
  // All rows are on the disk when this returns.
  void sync() const;

 private:
  void append(const std::string& line);
  void read_and_mark(int64_t step, int64_t data_position);

  std::string directory_;
  std::string path_;
  bool evaluated_ = false;
  std::ofstream file_;
  EventFile events_;
};

// Loss and gradient norm of a step, as a run's metrics.jsonl has them.
struct RecordedStep {
  double loss = 0;
  double gradient_norm = 0;
};
// By number; discarded rows do not count. Empty where there is no such file.
std::map<int64_t, RecordedStep> recorded_steps(const std::string& run_directory);

}  // namespace normlab
