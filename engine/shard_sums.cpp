#include "engine/shard_sums.h"

namespace normlab {

ShardSums::ShardSums(Model& model, int64_t shards)
    : model_(model),
      memory_(model.ops().allocate(shards * columns() * size_of(DType::f64))),
      rows_(memory_.data(), DType::f64, {shards, columns()}) {
  model.ops().zero(rows_);
}

int64_t ShardSums::columns() const { return 2 + model_.norm_std_sums().elements(); }

Tensor ShardSums::losses_of(int64_t shard) const {
  return rows_.row_slice(shard, 1).column_slice(0, 2);
}

Tensor ShardSums::stds_of(int64_t shard) const {
  const Tensor sums = model_.norm_std_sums();
  return rows_.row_slice(shard, 1).column_slice(2, sums.elements()).reshaped(sums.shape);
}

void ShardSums::keep(int64_t shard) {
  Ops& ops = model_.ops();
  ops.copy(losses_of(shard), ops.step_losses());
  ops.copy(stds_of(shard), model_.norm_std_sums());
  ops.zero_loss();
  model_.zero_norm_stds();
}

void ShardSums::total(Communicator& communicator) {
  Ops& ops = model_.ops();
  std::vector<double> rows(static_cast<size_t>(rows_.elements()));
  ops.download(rows.data(), rows_);
  communicator.sum(rows);  // exact: a shard is one rank's, and zero elsewhere
  const auto count = static_cast<size_t>(columns());
  std::vector<double> total(count, 0.0);
  for (size_t i = 0; i < rows.size(); ++i) total[i % count] += rows[i];
  ops.upload(ops.step_losses(), total.data());
  if (count > 2) ops.upload(model_.norm_std_sums(), total.data() + 2);
  ops.zero(rows_);
}

}  // namespace normlab
