#include "engine/optimizer.h"

#include <algorithm>

#include "engine/weights.h"

namespace normlab {
namespace {

int64_t blocks_of(int64_t elements) { return (elements + Ops::kNormBlock - 1) / Ops::kNormBlock; }

int64_t blocks_of(const std::vector<Range>& share) {
  int64_t blocks = 0;
  for (const Range& range : share) blocks += blocks_of(range.count());
  return blocks;
}

}  // namespace

Optimizer::Optimizer(Model& model, const OptimizerConfig& config, Communicator& communicator,
                     const ParallelConfig& parallel)
    : model_(model), config_(config), parallel_(parallel), communicator_(communicator) {
  allocate();
}

Optimizer::Optimizer(Model& model, const OptimizerConfig& config)
    : model_(model), config_(config), alone_(make_local_communicator()), communicator_(*alone_) {
  allocate();
}

void Optimizer::allocate() {
  Ops& ops = model_.ops();
  const int ranks = communicator_.ranks();
  share_ = sharded() ? share_of(model_.buckets(), communicator_.rank(), ranks)
                     : std::vector<Range>{{0, model_.values().elements()}};
  const int64_t elements = total(share_);
  const NumberTypes types = number_types(ops);
  memory_ = ops.allocate(bytes(elements, types));
  const Tensor all(memory_.data(), types.gradient, {1, (types.has_masters ? 3 : 2) * elements});
  ops.zero(all);
  first_moment_ = all.column_slice(0, elements);
  second_moment_ = all.column_slice(elements, elements);
  if (types.has_masters) masters_ = all.column_slice(2 * elements, elements);

  const int64_t blocks = blocks_of(model_.values().elements());
  int64_t share_blocks = 0;
  for (int rank = 0; sharded() && rank < ranks; ++rank) {
    share_blocks += blocks_of(share_of(model_.buckets(), rank, ranks));
  }
  partials_memory_ = ops.allocate((blocks + share_blocks) * size_of(ops.statistics_type()));
  const Tensor partials(partials_memory_.data(), ops.statistics_type(), {blocks + share_blocks, 1});
  partials_ = partials.row_slice(0, blocks);
  if (share_blocks > 0) share_partials_ = partials.row_slice(blocks, share_blocks);
  if (!masters_) return;
  for (const Parameter& parameter : model_.parameters()) {
    upload_floats(ops, parameter.part_of(masters()), download_floats(ops, parameter.value));
  }
  keep_masters();
}

Tensor Optimizer::masters() const { return masters_ && sharded() ? model_.gradients() : masters_; }

void Optimizer::copy_masters(Tensor arena, bool to_arena) {
  int64_t packed = 0;
  for (const Range& range : share_) {
    const Tensor whole = arena.column_slice(range.begin, range.count());
    const Tensor own = masters_.column_slice(packed, range.count());
    if (range.count() > 0) model_.ops().copy(to_arena ? whole : own, to_arena ? own : whole);
    packed += range.count();
  }
}

void Optimizer::collect_masters() {
  if (!masters_ || !sharded()) return;
  copy_masters(model_.gradients(), true);
  for (const Bucket& bucket : model_.buckets()) {
    communicator_.gather_parts(
        model_.gradients().column_slice(bucket.begin, bucket.end - bucket.begin));
  }
  communicator_.join();
}

void Optimizer::keep_masters() {
  if (masters_ && sharded()) copy_masters(model_.gradients(), false);
}

// Every rank's partial sums come to all: each has its own place, and the others add zeros to it.
void Optimizer::sum_squares_of_share() {
  Ops& ops = model_.ops();
  ops.zero(share_partials_);
  int64_t place = 0;
  for (int rank = 0; rank < communicator_.rank(); ++rank) {
    place += blocks_of(share_of(model_.buckets(), rank, communicator_.ranks()));
  }
  for (const Range& range : share_) {
    const int64_t blocks = blocks_of(range.count());
    if (blocks == 0) continue;
    ops.sum_of_squares(share_partials_.row_slice(place, blocks),
                       model_.gradients().column_slice(range.begin, range.count()));
    place += blocks;
  }
  communicator_.sum(share_partials_);
  communicator_.join();
}

void Optimizer::update(const Range& range, int64_t packed, double weight_decay) {
  if (range.count() <= 0) return;
  const AdamW settings{
      config_.beta1, config_.beta2, config_.epsilon, weight_decay,
      config_.name == OptimizerKind::adam ? WeightDecay::coupled : WeightDecay::decoupled};
  const auto whole = [&](Tensor arena) { return arena.column_slice(range.begin, range.count()); };
  const auto own = [&](Tensor arena) { return arena.column_slice(packed, range.count()); };
  model_.ops().adamw(whole(model_.values()), masters_ ? own(masters_) : Tensor{},
                     own(first_moment_), own(second_moment_), whole(model_.gradients()), settings);
}

void Optimizer::step(Gradients gradients) {
  Ops& ops = model_.ops();
  const bool own_share = sharded() && gradients == Gradients::own_share;
  if (own_share) {
    sum_squares_of_share();
  } else {
    ops.sum_of_squares(partials_, model_.gradients());
  }
  ops.finish_gradient(own_share ? share_partials_ : partials_);
  int64_t packed = 0;
  for (const Range& range : share_) {
    for (const Bucket& bucket : model_.buckets()) {
      const bool decays = !bucket.embeddings || config_.decay_embeddings;
      const auto within = [&](int64_t begin, int64_t end) {
        return Range{std::max(begin, range.begin), std::min(end, range.end)};
      };
      const Range matrices = within(bucket.begin, bucket.decay_end);
      const Range vectors = within(bucket.decay_end, bucket.end);
      update(matrices, packed + matrices.begin - range.begin, decays ? config_.weight_decay : 0.0);
      update(vectors, packed + vectors.begin - range.begin, 0.0);
    }
    packed += range.count();
  }
  if (!sharded()) return;
  for (const Bucket& bucket : model_.buckets()) {
    communicator_.gather_parts(
        model_.values().column_slice(bucket.begin, bucket.end - bucket.begin));
  }
  communicator_.join();
}

}  // namespace normlab
