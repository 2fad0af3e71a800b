#include "engine/plan.h"

#include <algorithm>
#include <map>
#include <thread>

#include "engine/checkpoint.h"
#include "engine/corpus.h"
#include "engine/device.h"
#include "engine/optimizer.h"
#include "engine/ranks.h"
#include "engine/step_gradient.h"
#include "models/structure.h"

namespace normlab {
namespace {

// Whether the shards of a recipe are there. A plan can do without where the recipe says enough: who
// weighs a run may not have its set yet.
bool has_shards(const Config& config, std::vector<std::string>& warnings) {
  if (config.model.vocabulary == 0) return true;  // only they can say it
  try {
    expand_paths(config.data.train);
    for (const auto& [name, patterns] : config.data.validation) expand_paths(patterns);
  } catch (const Error& error) {
    warnings.push_back(std::string("data: ") + error.what() +
                       ". The plan takes the recipe's word for its set");
    return false;
  }
  return true;
}

// What the data decide about a configuration.
void complete_by_data(Config& config, std::vector<std::string>& warnings) {
  if (config.data.corpus == Corpus::shards && !has_shards(config, warnings)) return;
  const RunDescription data = describe_corpus(config);
  resolve_vocabulary(config.model, least_vocabulary(config, data));
  resolve_data(config, data.train);
}

double flops_per_token(const ModelConfig& model, int64_t tokens) {
  const int64_t layer = model.packed_columns() * model.width + model.query_columns() * model.width +
                        model.hidden_columns() * model.width + model.feed_forward * model.width;
  const int64_t products = model.layers * layer + model.vocabulary * model.width;
  const int64_t attention = model.layers * tokens * model.query_columns();
  return 6.0 * static_cast<double>(products) + 6.0 * static_cast<double>(attention);
}

// What CpuOps takes beside: partial sums of the norms' gradients (kernels/cpu/norm.cpp), each
// thread's scratch for a block of attention or a row's dropout (attention.cpp, activation.cpp), and
// the rotary tables (activation.cpp).
int64_t cpu_workspace_bytes(const Config& config, const Workload& workload) {
  constexpr int64_t kBlock = 64;  // rows of a partial sum; queries of a block
  const ModelConfig& model = config.model;
  const int64_t tokens = workload.tokens;
  const int64_t threads =
      config.run.threads > 0 ? config.run.threads : int64_t{std::thread::hardware_concurrency()};
  // Of gain and bias; of slope and shift too where there may be some (elementwise_norm.cpp).
  const int64_t sums = is_elementwise(model.norm.kind) ? 4 : 2;
  const int64_t partials = (workload.rows() + kBlock - 1) / kBlock * sums * model.width;
  const int64_t attention = (2 * kBlock + 1) * tokens;
  const int64_t scratch = model.dropout > 0 ? std::max(attention, model.width) : attention;
  const int64_t rotary = model.positions == Positions::rope ? tokens * model.head_size : 0;
  return (partials + std::max<int64_t>(threads, 1) * scratch + rotary) * size_of(DType::f32);
}

// What RoundingOps takes beside: the float copies of all working tensors of one verb, the largest.
int64_t rounding_workspace_bytes(const ModelConfig& model, const Workload& workload) {
  ModelStructure structure = make_structure(model);
  Arena arena;
  lay_out_activations(structure, arena, model, workload, DType::bf16, DType::f32);
  const int64_t rows = workload.rows();
  const auto product = [&](int64_t in, int64_t out) {
    return rows * (in + out) + in * out + (model.biases != Biases::none ? out : 0);
  };
  const int64_t logits_rows = structure.temporaries.logits.rows();
  const int64_t positions = model.positions == Positions::learned ? model.context : 0;
  const int64_t largest = std::max(
      {(model.vocabulary + positions + rows) * model.width,
       logits_rows * (model.width + model.vocabulary) + model.width * model.vocabulary +
           (model.head_bias ? model.vocabulary : 0),
       product(model.width, model.packed_columns()), product(model.query_columns(), model.width),
       product(model.width, model.hidden_columns()), product(model.feed_forward, model.width),
       rows * (2 * model.hidden_columns() + model.feed_forward),  // activation, backward
       (4 * rows + 2) * model.width,                              // norm, backward
       2 * rows * (model.packed_columns() + model.query_columns())});
  return largest * size_of(DType::f32);
}

// What Bf16GradientsOps takes beside: the gradients of one verb, the largest. A verb is one of
// parameters whose names differ in their last word.
int64_t gradient_room_bytes(const ModelConfig& model) {
  constexpr int64_t kLine = 16;  // floats; gradients begin on cache lines
  std::map<std::string, int64_t> floats;
  for (const Parameter& parameter : make_structure(model).parameters) {
    const std::string verb = parameter.name.substr(0, parameter.name.rfind('.'));
    floats[verb] += (parameter.value.elements() + kLine - 1) / kLine * kLine;
  }
  int64_t largest = 0;
  for (const auto& [verb, count] : floats) largest = std::max(largest, count);
  return largest * size_of(DType::f32);
}

// Elements of the largest share of the optimizer's state: the last rank's.
int64_t most_of_share(const Config& config, int64_t elements, int ranks) {
  if (config.parallel.zero_stage == 0 || ranks == 1) return elements;
  return total(share_of(make_structure(config.model).buckets, ranks - 1, ranks));
}

void plan_communication(RunPlan& plan, const Config& config, const NumberTypes& types, int ranks) {
  if (ranks == 1) return;
  const auto ring = [ranks](int64_t elements, DType type) {
    return elements * size_of(type) * (ranks - 1) / ranks;
  };
  const bool tree = config.parallel.reproducible;
  const bool share = config.parallel.zero_stage > 0;
  if (tree) plan.sent_bytes = plan.sent_after_backward_bytes = 2 * plan.gradients_bytes;
  for (const Bucket& bucket : make_structure(config.model).buckets) {
    const int64_t elements = bucket.end - bucket.begin;
    const int64_t parts = tree ? 0 : ring(elements, types.gradient);
    // With ZeRO the parts that are gathered are the new weights'.
    const int64_t gathering = share ? ring(elements, types.working) : parts;
    plan.sent_bytes += parts + gathering;
    if (bucket.embeddings) plan.sent_after_backward_bytes += parts;
    if (bucket.embeddings || share) plan.sent_after_backward_bytes += gathering;
  }
}

}  // namespace

RunPlan plan_run(Config& config, int ranks) {
  RunPlan plan;
  if (config.model_from) {
    std::vector<std::string> warnings;
    adopt_model(config, warnings);
  }
  complete_by_data(config, plan.warnings);
  validate(config.model);
  check_removal(config, config.model_from_norms);
  check_ranks(config, ranks);
  const Workload workload = training_workload(config);
  const RunConfig run = resolve_device(config.run);
  const NumberTypes types = number_types(precision_of(run));
  const ModelMemory memory = measure_model(config.model, workload, types);
  const int64_t elements = memory.weights_bytes / size_of(types.working);
  const bool tree = config.parallel.reproducible;
  const int64_t shards = tree ? config.parallel.shards : ranks;
  plan.precision = run.precision;
  plan.parameters = parameter_count(config.model);
  plan.tokens_per_step = config.batch.tokens_per_step;
  plan.passes_per_step =
      passes_per_step(config.sequences_per_step(), shards, config.batch.micro_batch);
  plan.weights_bytes = memory.weights_bytes;
  plan.gradients_bytes = memory.gradients_bytes;
  const int64_t share = most_of_share(config, elements, ranks);
  plan.optimizer_bytes = Optimizer::bytes(share, types);
  plan.activations_bytes = memory.activations_bytes;
  plan.workspace_bytes = (2 * workload.rows() + workload.micro_batch) * size_of(DType::i32) +
                         (elements / Ops::kNormBlock + 1) * size_of(types.statistics) +
                         (tree ? gradient_tree_levels(shards) * memory.gradients_bytes : 0) +
                         cpu_workspace_bytes(config, workload);
  if (run.precision != PrecisionChoice::fp32 && run.device == DeviceChoice::cpu) {
    plan.workspace_bytes += rounding_workspace_bytes(config.model, workload);
  }
  if (is_pure_bf16(run.precision) && run.precision != PrecisionChoice::pure_bf16_weights) {
    plan.workspace_bytes += gradient_room_bytes(config.model);
  }
  plan.total_bytes = plan.weights_bytes + plan.gradients_bytes + plan.optimizer_bytes +
                     plan.activations_bytes + plan.workspace_bytes;
  plan_communication(plan, config, types, ranks);
  plan.schedule = removal_schedule(config.norm_removal, config.model.layers);
  for (const std::string& warning : removal_warnings(config)) plan.warnings.push_back(warning);
  plan.flops_per_token = flops_per_token(config.model, config.data.sequence_length);
  return plan;
}

}  // namespace normlab
