// Evaluation: per-token losses of a model on a corpus, and what they amount to.
#pragma once

#include <optional>
#include <vector>

#include "data/token_stream.h"
#include "models/model.h"

namespace normlab {

struct DocumentLoss {
  int64_t document = 0;  // index in the corpus
  int64_t tokens = 0;    // targets that were scored
  double loss = 0;       // mean, nats per token
};

struct EvaluationResult {
  double loss = 0;  // mean over tokens, nats
  double perplexity = 0;
  double median = 0;
  // Percentiles 2.5 and 97.5; 0.1 and 99.9, which "Transformers Don't Need LayerNorm" calls
  // the 99.9% range. Interpolated linearly, as numpy.percentile does.
  double range_95[2] = {};
  double range_99_9[2] = {};
  int64_t tokens = 0;
  std::vector<DocumentLoss> worst_documents;   // by mean loss, the worst first, at most 10
  std::optional<double> reference_perplexity;  // where reference_batch is given
  bool stopped = false;                        // ended early by should_stop
};

struct EvaluationOptions {
  int64_t tokens_per_sequence = 256;
  int64_t batch = 1;        // sequences of a pass; at most the model's micro-batch
  int64_t most_tokens = 0;  // targets scored at least, to the end of a batch; 0 = all
  RowPacking packing = RowPacking::concatenated;
  bool mask_eot_targets = false;
  // Sequences of a batch of "The Curse of Depth"'s own evaluation, on all its GPUs; 0: none. The
  // evaluation then stops at the end of such a batch, and reference_perplexity is what
  // github.com/lmsdss/LayerNorm-Scaling reports (torchrun_main.py, evaluate_model): batches count
  // equally, however many targets they have, and the sum over n of them is divided by n + 1.
  int64_t reference_batch = 0;
  // Asked before each pass.
  bool (*should_stop)() = nullptr;
};

// In the corpus's order, from its beginning. Dropout off. The same model, corpus and options give
// the same bits, in a run and outside.
EvaluationResult evaluate(Model& model, const TokenCorpus& corpus,
                          const EvaluationOptions& options);
// The order in which NaN counts as the largest.
bool smaller(double a, double b);
// numpy.percentile of sorted values, in percent; a value that has no part in it does not count, be
// it NaN.
double percentile(const std::vector<double>& sorted, double percent);
// Median, ranges and mean of per-token losses (all finite or not).
EvaluationResult summarize(std::vector<double> losses);

// Host batches on the device: room for tokens, targets and lengths of one pass.
class BatchUploader {
 public:
  BatchUploader(Ops& ops, int64_t sequences, int64_t tokens_per_sequence);
  // Sequences [first, first + count) of a host batch.
  Batch upload(const HostBatch& batch, int64_t first, int64_t count);

 private:
  Ops& ops_;
  Memory memory_;
  Tensor tokens_, targets_, lengths_;
};

}  // namespace normlab
