#include "engine/step_gradient.h"

#include <algorithm>

#include "engine/stop_request.h"

namespace normlab {

Workload training_workload(const Config& config) {
  const auto& phases = config.norm_removal.phases;
  const bool apart =
      phases.contains(NormRole::attention_qk) || phases.contains(NormRole::attention_v);
  return {config.batch.micro_batch, config.data.sequence_length, Purpose::training,
          apart ? AttentionNorms::apart : attention_norms(config.model_from_norms),
          config.batch.recompute};
}

int gradient_tree_levels(int64_t shards) {
  int levels = 0;
  while ((int64_t{1} << levels) < shards) ++levels;
  return levels;
}

StepGradient::StepGradient(Model& model, const Config& config, Communicator& communicator,
                           NormRemoval& removal)
    : model_(model),
      config_(config),
      communicator_(communicator),
      removal_(removal),
      uploader_(model.ops(), config.batch.micro_batch, config.data.sequence_length) {
  if (config.parallel.reproducible) sums_.emplace(model, shards());
  const int levels = config.parallel.reproducible ? gradient_tree_levels(shards()) : 0;
  const int64_t elements = model_.values().elements();
  tree_.push_back(model_.gradients());
  if (levels == 0) return;
  tree_memory_ = model_.ops().allocate(levels * elements * size_of(model_.ops().gradient_type()));
  const Tensor all(tree_memory_.data(), model_.ops().gradient_type(), {1, levels * elements});
  for (int level = 0; level < levels; ++level) {
    tree_.push_back(all.column_slice(level * elements, elements));
  }
}

int64_t StepGradient::shards() const {
  return config_.parallel.reproducible ? config_.parallel.shards : communicator_.ranks();
}

// Shards are contiguous parts of the global batch; their sizes differ by one sequence at most.
int64_t StepGradient::shard_begin(int64_t shard) const {
  return part_of_step(config_.sequences_per_step(), shard, shards()).first;
}

int StepGradient::rank_of(int64_t shard) const {
  const int ranks = communicator_.ranks();
  int rank = 0;
  while (part_of_step(shards(), rank + 1, ranks).first <= shard && rank + 1 < ranks) ++rank;
  return rank;
}

int64_t StepGradient::passes() const {
  return normlab::passes_per_step(config_.sequences_per_step(), shards(),
                                  config_.batch.micro_batch);
}

bool StepGradient::accumulate_shard(const HostBatch& batch, int64_t first, int64_t last,
                                    StepState& state) {
  for (const auto [sequence, end] : passes_of({first, last}, config_.batch.micro_batch)) {
    if (communicator_.ranks() == 1 && stop_requested()) return false;
    const int64_t count = end - sequence;
    state.first_sequence = sequence;
    const auto begin = batch.targets.begin() + sequence * batch.tokens_per_sequence;
    const int64_t scored = std::count_if(begin, begin + count * batch.tokens_per_sequence,
                                         [](int32_t target) { return target >= 0; });
    state.scored_tokens = scored;
    if (config_.optimizer.loss_average == LossAverage::micro_batch) {
      state.loss_scale = scored > 0 ? 1.0 / static_cast<double>(scored * passes()) : 0.0;
    }
    model_.ops().set_step_state(state);
    const Batch device_batch = uploader_.upload(batch, sequence, count);
    if (diagnostics_ != nullptr) diagnostics_->begin_pass(batch, sequence, count);
    model_.forward(device_batch, Pass::training, diagnostics_);
    removal_.add(device_batch);
    // A bucket of the last pass is summed over ranks while earlier layers still run. With the tree,
    // that comes first.
    const bool complete = !config_.parallel.reproducible && end == last;
    model_.backward(device_batch,
                    complete ? BucketDone([this](int bucket) { reduce(bucket); }) : BucketDone());
  }
  return true;
}

void StepGradient::reduce(int number) {
  const Bucket& bucket = model_.buckets()[static_cast<size_t>(number)];
  const Tensor gradients = model_.gradients().column_slice(bucket.begin, bucket.end - bucket.begin);
  switch (extent()) {
    case Optimizer::Gradients::whole:
      return communicator_.sum(gradients);
    case Optimizer::Gradients::own_share:
      return communicator_.sum_parts(gradients);
  }
}

Optimizer::Gradients StepGradient::extent() const {
  const bool own_share = config_.parallel.zero_stage > 0 && !config_.parallel.reproducible;
  return own_share ? Optimizer::Gradients::own_share : Optimizer::Gradients::whole;
}

void StepGradient::reduce_sums() {
  if (sums_) return sums_->total(communicator_);
  communicator_.sum(model_.ops().step_losses());
  if (removal_.tracks()) communicator_.sum(model_.norm_std_sums());
}

void StepGradient::add_halves(int64_t first, int64_t middle, size_t buffer) {
  const int left = rank_of(first), right = rank_of(middle);
  if (left != right && communicator_.rank() == right) communicator_.send(tree_[buffer + 1], left);
  if (left != right && communicator_.rank() == left)
    communicator_.receive(tree_[buffer + 1], right);
  communicator_.join();
  if (communicator_.rank() == left) {
    model_.ops().add(tree_[buffer], tree_[buffer], tree_[buffer + 1]);
  }
}

bool StepGradient::accumulate(const HostBatch& batch, int64_t first, int64_t last, size_t buffer,
                              StepState& state) {
  const int rank = communicator_.rank();
  if (rank < rank_of(first) || rank > rank_of(last - 1)) return true;
  if (last - first == 1) {
    model_.ops().zero(tree_[buffer]);
    model_.set_gradients(tree_[buffer]);
    if (!accumulate_shard(batch, shard_begin(first), shard_begin(last), state)) return false;
    if (sums_) sums_->keep(first);
    return true;
  }
  const int64_t middle = first + (last - first) / 2;
  if (!accumulate(batch, first, middle, buffer, state)) return false;
  if (!accumulate(batch, middle, last, buffer + 1, state)) return false;
  add_halves(first, middle, buffer);
  return true;
}

bool StepGradient::compute(const HostBatch& batch, StepState state, StepDiagnostics* diagnostics) {
  diagnostics_ = diagnostics;
  if (config_.parallel.reproducible) {
    if (!accumulate(batch, 0, shards(), 0, state)) return false;
    communicator_.broadcast(tree_[0], 0);
  } else {
    const int64_t own = communicator_.rank();
    model_.ops().zero(tree_[0]);
    if (!accumulate_shard(batch, shard_begin(own), shard_begin(own + 1), state)) return false;
  }
  model_.set_gradients(tree_[0]);
  reduce_sums();
  communicator_.join();
  return true;
}

}  // namespace normlab
