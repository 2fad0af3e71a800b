#include "engine/evaluation.h"

#include <algorithm>
#include <cmath>

#include "engine/weights.h"

namespace normlab {
namespace {

// Losses by the document in which their target lies; documents come one after another, so only the
// worst are kept.
class DocumentLosses {
 public:
  DocumentLosses(const TokenCorpus& corpus, const EvaluationOptions& options)
      : cursor_(corpus), options_(options) {}

  // A loss of target number `offset` (from 0) of sequence `sequence`.
  void add(int64_t sequence, int64_t offset, double loss) {
    int64_t document = sequence;
    if (options_.packing == RowPacking::concatenated) {
      document = cursor_.document_at(sequence * options_.tokens_per_sequence + offset + 1);
    }
    if (document != current_.document) finish_document();
    current_.document = document;
    current_.loss += loss;
    ++current_.tokens;
  }

  std::vector<DocumentLoss> worst() {
    finish_document();
    return worst_;
  }

 private:
  static constexpr size_t kKept = 10;

  void finish_document() {
    if (current_.tokens > 0) {
      current_.loss /= static_cast<double>(current_.tokens);
      // Of equal ones the first stays before.
      const auto place =
          std::upper_bound(worst_.begin(), worst_.end(), current_,
                           [](const auto& a, const auto& b) { return smaller(b.loss, a.loss); });
      worst_.insert(place, current_);
      if (worst_.size() > kKept) worst_.pop_back();
    }
    current_ = {};
  }

  DocumentCursor cursor_;
  EvaluationOptions options_;
  DocumentLoss current_;
  std::vector<DocumentLoss> worst_;
};

// The reference's perplexity, from losses in the corpus's order.
class ReferenceBatches {
 public:
  explicit ReferenceBatches(int64_t sequences) : sequences_(sequences) {}

  // How many of `wanted` sequences from number `first` on lie in the same batch.
  int64_t within_batch(int64_t first, int64_t wanted) const {
    return sequences_ == 0 ? wanted : std::min(wanted, sequences_ - first % sequences_);
  }
  // Whether a batch ends where sequence `next` begins.
  bool ends_before(int64_t next) const { return sequences_ == 0 || next % sequences_ == 0; }

  void add(int64_t sequence, double loss) {
    if (sequences_ == 0) return;
    if (sequence / sequences_ != current_) finish_batch();
    current_ = sequence / sequences_;
    sum_ += loss;
    ++targets_;
  }

  std::optional<double> perplexity() {
    if (sequences_ == 0) return std::nullopt;
    finish_batch();
    return std::exp(sum_of_means_ / static_cast<double>(batches_ + 1));
  }

 private:
  void finish_batch() {
    if (targets_ == 0) return;
    sum_of_means_ += sum_ / static_cast<double>(targets_);
    ++batches_;
    sum_ = 0;
    targets_ = 0;
  }

  int64_t sequences_;
  int64_t current_ = 0;
  double sum_ = 0;
  int64_t targets_ = 0;
  double sum_of_means_ = 0;
  int64_t batches_ = 0;
};

}  // namespace

BatchUploader::BatchUploader(Ops& ops, int64_t sequences, int64_t tokens_per_sequence) : ops_(ops) {
  const int64_t elements = sequences * tokens_per_sequence;
  memory_ = ops.allocate((2 * elements + sequences) * size_of(DType::i32));
  const Tensor both(memory_.data(), DType::i32, {2 * sequences, tokens_per_sequence});
  tokens_ = both.row_slice(0, sequences);
  targets_ = both.row_slice(sequences, sequences);
  lengths_ = Tensor(memory_.data(), DType::i32, {1, 2 * elements + sequences})
                 .column_slice(2 * elements, sequences)
                 .reshaped({sequences, 1});
}

Batch BatchUploader::upload(const HostBatch& batch, int64_t first, int64_t count) {
  const Tensor tokens = tokens_.row_slice(0, count);
  const Tensor targets = targets_.row_slice(0, count);
  const auto offset = static_cast<size_t>(first * batch.tokens_per_sequence);
  ops_.upload(tokens, batch.tokens.data() + offset);
  ops_.upload(targets, batch.targets.data() + offset);
  const Tensor lengths = lengths_.row_slice(0, count);
  ops_.upload(lengths, batch.lengths.data() + first);
  return {tokens, targets, lengths};
}

bool smaller(double a, double b) { return std::isnan(b) ? !std::isnan(a) : a < b; }

double percentile(const std::vector<double>& sorted, double percent) {
  const double place = percent / 100 * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double part = place - static_cast<double>(below);
  if (part == 0) return sorted[below];
  return sorted[below] + (sorted[above] - sorted[below]) * part;
}

EvaluationResult summarize(std::vector<double> losses) {
  EvaluationResult result;
  result.tokens = static_cast<int64_t>(losses.size());
  if (losses.empty()) return result;
  double sum = 0;
  for (const double loss : losses) sum += loss;
  result.loss = sum / static_cast<double>(losses.size());
  result.perplexity = std::exp(result.loss);
  std::sort(losses.begin(), losses.end(), smaller);
  result.median = percentile(losses, 50);
  result.range_95[0] = percentile(losses, 2.5);
  result.range_95[1] = percentile(losses, 97.5);
  result.range_99_9[0] = percentile(losses, 0.1);
  result.range_99_9[1] = percentile(losses, 99.9);
  return result;
}

EvaluationResult evaluate(Model& model, const TokenCorpus& corpus,
                          const EvaluationOptions& options) {
  StreamOptions stream_options;
  stream_options.tokens_per_sequence = options.tokens_per_sequence;
  stream_options.packing = options.packing;
  stream_options.mask_eot_targets = options.mask_eot_targets;
  stream_options.shuffled = false;
  TokenStream stream(corpus, stream_options);
  BatchUploader uploader(model.ops(), options.batch, options.tokens_per_sequence);
  DocumentLosses documents(corpus, options);
  ReferenceBatches batches(options.reference_batch);
  std::vector<double> scored;
  int64_t first_sequence = 0;
  bool stopped = false;
  const auto enough = [&] {
    return options.most_tokens > 0 && batches.ends_before(first_sequence) &&
           static_cast<int64_t>(scored.size()) >= options.most_tokens;
  };
  while (!enough()) {
    stopped = options.should_stop != nullptr && options.should_stop();
    if (stopped) break;
    const HostBatch host = stream.next(batches.within_batch(first_sequence, options.batch));
    if (host.sequences == 0) break;
    const Batch batch = uploader.upload(host, 0, host.sequences);
    model.forward(batch, Pass::evaluation);
    const std::vector<float> losses = download_floats(model.ops(), model.losses(batch));
    for (size_t i = 0; i < losses.size(); ++i) {
      if (host.targets[i] < 0) continue;
      const double loss = static_cast<double>(losses[i]);
      scored.push_back(loss);
      const auto place = static_cast<int64_t>(i);
      const int64_t sequence = first_sequence + place / options.tokens_per_sequence;
      documents.add(sequence, place % options.tokens_per_sequence, loss);
      batches.add(sequence, loss);
    }
    first_sequence += host.sequences;
  }
  EvaluationResult result = summarize(std::move(scored));
  result.worst_documents = documents.worst();
  result.reference_perplexity = batches.perplexity();
  result.stopped = stopped;
  return result;
}

}  // namespace normlab
