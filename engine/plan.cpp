#include "engine/plan.h"

#include "data/tokenizer.h"
#include "engine/checkpoint.h"
#include "engine/corpus.h"
#include "engine/optimizer.h"
#include "engine/trainer.h"
#include "models/structure.h"

namespace normlab {
namespace {

void find_vocabulary(Config& config) {
  RunCorpus corpus;
  if (config.data.corpus != Corpus::shards) {
    corpus.vocabulary = make_tokenizer(config.data.tokenizer)->vocabulary();
  } else if (config.model.vocabulary == 0) {
    corpus = open_corpus(config);
  }
  resolve_vocabulary(config.model, corpus);
}

double flops_per_token(const ModelConfig& model, int64_t tokens) {
  const int64_t layer = model.packed_columns() * model.width + model.query_columns() * model.width +
                        model.hidden_columns() * model.width + model.feed_forward * model.width;
  const int64_t products = model.layers * layer + model.vocabulary * model.width;
  const int64_t attention = model.layers * tokens * model.query_columns();
  return 6.0 * static_cast<double>(products) + 6.0 * static_cast<double>(attention);
}

}  // namespace

RunPlan plan_run(Config& config) {
  if (config.model_from) {
    std::vector<std::string> warnings;
    adopt_model(config, warnings);
  }
  find_vocabulary(config);
  validate(config.model);
  const Workload workload{config.batch.micro_batch, config.data.sequence_length, Purpose::training};
  const ModelMemory memory = measure_model(config.model, workload, DType::f32, DType::f32);
  const int64_t elements = memory.weights_bytes / size_of(DType::f32);
  const int64_t shards = config.parallel.reproducible ? config.parallel.shards : 1;
  RunPlan plan;
  plan.parameters = parameter_count(config.model);
  plan.tokens_per_step = config.batch.tokens_per_step;
  for (int64_t shard = 0; shard < shards; ++shard) {
    const int64_t sequences = (shard + 1) * config.sequences_per_step() / shards -
                              shard * config.sequences_per_step() / shards;
    plan.passes_per_step += (sequences + config.batch.micro_batch - 1) / config.batch.micro_batch;
  }
  plan.weights_bytes = memory.weights_bytes;
  plan.gradients_bytes = memory.gradients_bytes;
  plan.optimizer_bytes = Optimizer::bytes(elements, DType::f32);
  plan.activations_bytes = memory.activations_bytes;
  plan.workspace_bytes = 2 * workload.rows() * size_of(DType::i32) +
                         (elements / Ops::kNormBlock + 1) * size_of(DType::f32) +
                         gradient_tree_levels(shards) * memory.gradients_bytes;
  plan.total_bytes = plan.weights_bytes + plan.gradients_bytes + plan.optimizer_bytes +
                     plan.activations_bytes + plan.workspace_bytes;
  plan.flops_per_token = flops_per_token(config.model, config.data.sequence_length);
  return plan;
}

}  // namespace normlab
