#include "engine/analysis/depth.h"

#include <algorithm>
#include <cmath>

#include "engine/evaluation.h"
#include "kernels/numbers.h"

namespace normlab {
namespace {

// Keeps the states of the stream, on the device: x_0 … x_L, and what the head reads.
class StreamKeeper final : public Probe {
 public:
  StreamKeeper(Model& model, int64_t rows) : ops_(model.ops()), rows_(rows) {
    layers_ = model.config().layers;
    const Shape shape{(layers_ + 2) * rows, model.config().width};
    memory_ = ops_.allocate(shape.elements() * size_of(ops_.working_type()));
    states_ = Tensor(memory_.data(), ops_.working_type(), shape);
  }

  void activation(ProbeSite site, int64_t layer, Tensor tensor, int64_t) override {
    if (site == ProbeSite::residual_pre) ops_.copy(state(layer, tensor.rows()), tensor);
    if (site == ProbeSite::final_pre) ops_.copy(state(layers_, tensor.rows()), tensor);
    if (site == ProbeSite::final) ops_.copy(state(layers_ + 1, tensor.rows()), tensor);
  }
  // (rows, C).
  Tensor state(int64_t number, int64_t rows) const {
    return states_.row_slice(number * rows_, rows);
  }

 private:
  Ops& ops_;
  int64_t rows_, layers_ = 0;
  Memory memory_;
  Tensor states_;
};

class DepthMeasurement {
 public:
  DepthMeasurement(Model& model, const TokenCorpus& corpus, const DepthOptions& options)
      : model_(model),
        options_(options),
        layers_(model.config().layers),
        stream_(corpus, stream_options(options)),
        uploader_(model.ops(), options.batch, options.tokens_per_sequence),
        keeper_(model, options.batch * options.tokens_per_sequence),
        statistics_(layers_),
        reference_(layers_),
        jacobian_(model, options.jacobian, options.batch * options.tokens_per_sequence),
        losses_without_(static_cast<size_t>(layers_)) {
    expected_tokens_ = corpus.size();
    if (options.most_tokens > 0) {
      expected_tokens_ = std::min(expected_tokens_, options.most_tokens);
    }
  }

  DepthResult run() {
    while (options_.most_tokens == 0 || result_.tokens < options_.most_tokens) {
      const HostBatch host = stream_.next(options_.batch);
      if (host.sequences == 0) break;
      add(host);
    }
    if (options_.progress) options_.progress(1);
    const auto targets = static_cast<double>(result_.targets);
    result_.variances = statistics_.variances();
    result_.distances = statistics_.distances();
    result_.reference_distances = reference_.rows();
    result_.loss /= targets;
    for (const double sum : losses_without_) result_.loss_without.push_back(sum / targets);
    result_.jacobian = jacobian_.result();
    return result_;
  }

 private:
  static StreamOptions stream_options(const DepthOptions& options) {
    StreamOptions stream;
    stream.tokens_per_sequence = options.tokens_per_sequence;
    stream.packing = options.packing;
    stream.mask_eot_targets = options.mask_eot_targets;
    stream.shuffled = false;
    return stream;
  }

  void add(const HostBatch& host) {
    const Batch batch = uploader_.upload(host, 0, host.sequences);
    model_.forward(batch, Pass::evaluation, &keeper_);
    result_.loss += sum_of_losses(batch);
    add_statistics(host);
    const int64_t rows = batch.tokens.elements();
    const int64_t steps = takes_jacobian(host) ? 2 * layers_ : layers_;
    for (int64_t layer = 0; layer < layers_; ++layer) {
      model_.forward_from(layer + 1, keeper_.state(layer, rows), batch, Pass::evaluation);
      losses_without_[static_cast<size_t>(layer)] += sum_of_losses(batch);
      report(host, layer + 1, steps);
    }
    if (takes_jacobian(host)) {
      for (int64_t layer = 0; layer < layers_; ++layer) {
        jacobian_.add(layer, keeper_.state(layer, rows), norms_[static_cast<size_t>(layer)], batch,
                      host, result_.sequences);
        report(host, layers_ + layer + 1, steps);
      }
      result_.jacobian_tokens += host.token_count;
    }
    result_.sequences += host.sequences;
    result_.tokens += host.token_count;
    result_.targets += host.target_count;
  }

  bool takes_jacobian(const HostBatch& host) const {
    return host.token_count > 0 && options_.jacobian.projections > 0 &&
           (options_.jacobian_tokens == 0 || result_.jacobian_tokens < options_.jacobian_tokens);
  }

  // Of all tokens; ignored ones have none.
  double sum_of_losses(const Batch& batch) {
    double sum = 0;
    for (const double loss : download_numbers(model_.ops(), model_.losses(batch))) sum += loss;
    return sum;
  }

  // In chunks of rows, which take little memory on the host.
  void add_statistics(const HostBatch& host) {
    constexpr int64_t kChunk = 256;
    const int64_t rows = host.sequences * host.tokens_per_sequence;
    norms_.assign(static_cast<size_t>(layers_ + 1), std::vector<double>(static_cast<size_t>(rows)));
    for (int64_t first = 0; first < rows; first += kChunk) {
      const int64_t count = std::min(kChunk, rows - first);
      std::vector<std::vector<double>> states;
      for (int64_t state = 0; state <= layers_ + 1; ++state) {
        states.push_back(
            download_numbers(model_.ops(), keeper_.state(state, rows).row_slice(first, count)));
      }
      for (int64_t row = 0; row < count; ++row) add_token(host, first + row, states, row);
    }
  }

  void add_token(const HostBatch& host, int64_t place,
                 const std::vector<std::vector<double>>& states, int64_t row) {
    const auto width = static_cast<size_t>(model_.config().width);
    std::vector<std::span<const double>> token;
    for (const std::vector<double>& state : states) {
      token.emplace_back(state.data() + static_cast<size_t>(row) * width, width);
    }
    const std::span<const double> final = token.back();
    token.pop_back();
    const int64_t position = place % host.tokens_per_sequence;
    const auto sequence = static_cast<size_t>(place / host.tokens_per_sequence);
    if (position == host.tokens_per_sequence - 1) reference_.add(token, final);
    if (position >= host.lengths[sequence]) return;
    const std::vector<double> norms = statistics_.add(token);
    for (size_t state = 0; state < norms.size(); ++state) {
      norms_[state][static_cast<size_t>(place)] = norms[state];
    }
  }

  // Within a batch: `done` of `steps` layers are left out or moved.
  void report(const HostBatch& host, int64_t done, int64_t steps) const {
    if (!options_.progress) return;
    const double share = static_cast<double>(done) / static_cast<double>(steps);
    const double tokens =
        static_cast<double>(result_.tokens) + share * static_cast<double>(host.token_count);
    const double all = tokens / static_cast<double>(expected_tokens_);
    if (all < 1) options_.progress(all);
  }

  Model& model_;
  DepthOptions options_;
  int64_t layers_;
  TokenStream stream_;
  BatchUploader uploader_;
  StreamKeeper keeper_;
  StreamStatistics statistics_;
  ReferenceDistances reference_;
  JacobianMeasurement jacobian_;
  std::vector<double> losses_without_;
  std::vector<std::vector<double>> norms_;  // of each state, by row of the batch
  int64_t expected_tokens_ = 0;
  DepthResult result_;
};

}  // namespace

DepthResult measure_depth(Model& model, const TokenCorpus& corpus, const DepthOptions& options) {
  return DepthMeasurement(model, corpus, options).run();
}

}  // namespace normlab
