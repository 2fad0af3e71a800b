#include "engine/optimizer.h"

#include "engine/weights.h"

namespace normlab {

Optimizer::Optimizer(Model& model, const OptimizerConfig& config) : model_(model), config_(config) {
  Ops& ops = model.ops();
  const int64_t elements = model.values().elements();
  const NumberTypes types = number_types(ops);
  memory_ = ops.allocate(bytes(elements, types));
  const Tensor all(memory_.data(), types.gradient, {1, (types.has_masters ? 3 : 2) * elements});
  ops.zero(all);
  first_moment_ = all.column_slice(0, elements);
  second_moment_ = all.column_slice(elements, elements);
  if (types.has_masters) masters_ = all.column_slice(2 * elements, elements);
  const int64_t blocks = (elements + Ops::kNormBlock - 1) / Ops::kNormBlock;
  partials_memory_ = ops.allocate(blocks * size_of(ops.statistics_type()));
  partials_ = Tensor(partials_memory_.data(), ops.statistics_type(), {blocks, 1});
  if (!masters_) return;
  for (const Parameter& parameter : model.parameters()) {
    upload_floats(ops, parameter.part_of(masters_), download_floats(ops, parameter.value));
  }
}

void Optimizer::step() {
  Ops& ops = model_.ops();
  ops.sum_of_squares(partials_, model_.gradients());
  ops.finish_gradient(partials_);
  AdamW settings{
      config_.beta1, config_.beta2, config_.epsilon, 0,
      config_.name == OptimizerKind::adam ? WeightDecay::coupled : WeightDecay::decoupled};
  const auto update = [&](int64_t begin, int64_t end, double weight_decay) {
    if (begin == end) return;
    settings.weight_decay = weight_decay;
    const auto part = [&](Tensor arena) { return arena.column_slice(begin, end - begin); };
    ops.adamw(part(model_.values()), masters_ ? part(masters_) : Tensor{}, part(first_moment_),
              part(second_moment_), part(model_.gradients()), settings);
  };
  for (const Bucket& bucket : model_.buckets()) {
    const bool decays = !bucket.embeddings || config_.decay_embeddings;
    update(bucket.begin, bucket.decay_end, decays ? config_.weight_decay : 0.0);
    update(bucket.decay_end, bucket.end, 0.0);
  }
}

}  // namespace normlab
