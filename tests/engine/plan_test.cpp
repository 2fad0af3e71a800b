#include "engine/plan.h"

#include <algorithm>

#include "catch.h"
#include "config_text.h"
#include "engine/corpus.h"
#include "engine/evaluation.h"
#include "engine/optimizer.h"
#include "engine/trainer.h"
#include "kernels/bf16_gradients_ops.h"
#include "kernels/cpu/rounding_ops.h"
#include "temporary_folder.h"

using namespace normlab;
using namespace normlab::test;

namespace {

// Operations in float that remember the largest piece of memory asked for.
class LargestAllocation final : public ForwardingOps {
 public:
  explicit LargestAllocation(std::unique_ptr<Ops> ops = make_ops(Device::cpu, Precision::fp32, 1))
      : ForwardingOps(*ops), ops_(std::move(ops)) {}
  Memory allocate(int64_t bytes) override {
    bytes_ = std::max(bytes_, bytes);
    return ops().allocate(bytes);
  }
  void forget() { bytes_ = 0; }
  int64_t bytes() const { return bytes_; }

 private:
  std::unique_ptr<Ops> ops_;
  int64_t bytes_ = 0;
};

// A pass of a new model; what making it has taken is forgotten.
void run_pass(Ops& ops, const Config& config, LargestAllocation& seen) {
  const int64_t batch = config.batch.micro_batch, tokens = config.data.sequence_length;
  Model model(ops, config.model, {batch, tokens, Purpose::training});
  BatchUploader uploader(ops, batch, tokens);
  HostBatch host;
  host.sequences = batch;
  host.tokens_per_sequence = tokens;
  host.tokens.resize(static_cast<size_t>(batch * tokens));
  host.targets.resize(static_cast<size_t>(batch * tokens));
  host.lengths.resize(static_cast<size_t>(batch));
  seen.forget();
  const Batch there = uploader.upload(host, 0, batch);
  model.forward(there, Pass::training);
  model.backward(there);
}

}  // namespace

TEST_CASE("gradient_tree_levels: a buffer for each level above the leaves") {
  const std::vector<std::pair<int64_t, int>> levels = {{1, 0}, {2, 1}, {3, 2}, {4, 2},
                                                       {5, 3}, {8, 3}, {9, 4}, {1024, 10}};
  for (const auto& [shards, expected] : levels) CHECK(gradient_tree_levels(shards) == expected);
}

TEST_CASE("plan: counts the parameters, passes and bytes that a run has") {
  Config config = parse(minimal, {"batch.micro_batch=3"});
  const RunPlan plan = plan_run(config);
  CHECK(config.model.vocabulary == 257);
  // V·C + context·C + 2·(12·C² + 13·C) + 2·C.
  const int64_t parameters = 257 * 32 + 256 * 32 + 2 * (12 * 32 * 32 + 13 * 32) + 2 * 32;
  CHECK(plan.parameters == parameters);
  CHECK(plan.tokens_per_step == 2048);
  CHECK(plan.passes_per_step == 3);  // 8 sequences by 3
  CHECK(plan.weights_bytes >= 4 * parameters);
  CHECK(plan.weights_bytes < 4 * (parameters + 64 * 16));  // alignment of the buckets
  CHECK(plan.gradients_bytes == plan.weights_bytes);
  CHECK(plan.optimizer_bytes == 2 * plan.weights_bytes);
  CHECK(plan.total_bytes == plan.weights_bytes + plan.gradients_bytes + plan.optimizer_bytes +
                                plan.activations_bytes + plan.workspace_bytes);
  // 6 · (matrices that multiply) + 6 · layers · T · C.
  const int64_t products = 2 * 12 * 32 * 32 + 257 * 32;
  CHECK(plan.flops_per_token == 6.0 * double(products) + 6.0 * 2 * 256 * 32);
}

TEST_CASE("plan: logical shards add passes and gradient buffers") {
  Config plain_config = parse(minimal, {"batch.micro_batch=3"});
  Config config =
      parse(minimal, {"batch.micro_batch=3", "parallel={reproducible: true, shards: 5}"});
  const RunPlan plain = plan_run(plain_config), plan = plan_run(config);
  CHECK(plan.passes_per_step == 5);  // of 1, 2, 1, 2, 2 sequences
  CHECK(plan.workspace_bytes == plain.workspace_bytes + 3 * plan.gradients_bytes);
}

TEST_CASE("plan: the weights and moments of the plan are those that are allocated") {
  Config config = parse(minimal, {"data.sequence_length=16", "batch.tokens_per_step=64"});
  const RunPlan plan = plan_run(config);
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  Model model(*ops, config.model, {4, 16, Purpose::training});
  const Optimizer optimizer(model, config.optimizer);
  CHECK(plan.weights_bytes == model.values().elements() * 4);
  CHECK(plan.gradients_bytes == model.gradients().elements() * 4);
  CHECK(plan.optimizer_bytes ==
        (optimizer.first_moment().elements() + optimizer.second_moment().elements()) * 4);
}

TEST_CASE("plan: ranks share the optimizer's state, and pass less each") {
  Config config = parse(minimal, {"run.device=cpu"});
  Config whole = parse(minimal, {"run.device=cpu", "parallel.zero_stage=0"});
  const RunPlan one = plan_run(config, 1), four = plan_run(config, 4);
  CHECK(four.weights_bytes == one.weights_bytes);
  CHECK(four.gradients_bytes == one.gradients_bytes);
  // The largest share has the remainders of all buckets: less than 64 numbers for each rank.
  const int64_t quarter = one.optimizer_bytes / 4;
  CHECK(four.optimizer_bytes >= quarter);
  CHECK(four.optimizer_bytes < quarter + 4 * 4 * 64 * 2 * 4);
  CHECK(plan_run(whole, 4).optimizer_bytes == one.optimizer_bytes);
  CHECK_THROWS_AS(plan_run(config, 9), Error);  // 8 sequences a step
}

TEST_CASE("plan: what a rank sends goes round a ring, the last bucket after the backward pass") {
  Config config = parse(minimal, {"run.device=cpu", "parallel.zero_stage=0"});
  const RunPlan alone = plan_run(config, 1);
  CHECK(alone.sent_bytes == 0);
  CHECK(alone.sent_after_backward_bytes == 0);
  const RunPlan four = plan_run(config, 4);
  CHECK(four.sent_bytes == 2 * four.gradients_bytes * 3 / 4);
  // Embeddings of 257 tokens and 256 positions, 32 wide, tied: multiples of 64.
  CHECK(four.sent_after_backward_bytes == 2 * (257 * 32 + 32 + 256 * 32) * 4 * 3 / 4);

  Config shared = parse(minimal, {"run.device=cpu", "run.precision=bf16"});
  const RunPlan zero = plan_run(shared, 4);
  const int64_t elements = zero.weights_bytes / 2;
  CHECK(zero.sent_bytes == elements * (4 + 2) * 3 / 4);
  CHECK(zero.sent_after_backward_bytes == (elements * 2 + (257 * 32 + 32 + 256 * 32) * 4) * 3 / 4);

  Config tree = parse(minimal, {"run.device=cpu", "parallel={reproducible: true, shards: 4}"});
  const RunPlan reproducible = plan_run(tree, 4);
  // The tree and the sum handed on; then ZeRO's new weights.
  CHECK(reproducible.sent_bytes ==
        2 * reproducible.gradients_bytes + reproducible.weights_bytes * 3 / 4);
  CHECK(reproducible.sent_after_backward_bytes == reproducible.sent_bytes);
}

TEST_CASE("plan: bf16 halves the weights and adds masters to the moments") {
  Config wide_config = parse(minimal, {"run.device=cpu"});
  Config config = parse(minimal, {"run.device=cpu", "run.precision=bf16"});
  const RunPlan wide = plan_run(wide_config), plan = plan_run(config);
  CHECK(wide.precision == PrecisionChoice::fp32);
  CHECK(plan.precision == PrecisionChoice::bf16);
  CHECK(2 * plan.weights_bytes == wide.weights_bytes);
  CHECK(plan.gradients_bytes == wide.gradients_bytes);
  CHECK(2 * plan.optimizer_bytes == 3 * wide.optimizer_bytes);
  CHECK(plan.activations_bytes < wide.activations_bytes);
  const auto ops = make_ops(Device::cpu, Precision::bf16, 1);
  Model model(*ops, config.model, {4, 256, Purpose::training});
  const Optimizer optimizer(model, config.optimizer);
  CHECK(plan.weights_bytes == model.values().elements() * 2);
  CHECK(plan.gradients_bytes == model.gradients().elements() * 4);
  CHECK(plan.optimizer_bytes == 3 * optimizer.masters().elements() * 4);
}

TEST_CASE("plan: in bf16 on the CPU the workspace holds the float copies of the largest verb") {
  // What is largest: the head; the activation of many rows; the embedding of few.
  const std::vector<std::vector<std::string>> cases = {
      {"model.vocabulary=3000"},
      {"model.family=llama", "model.feed_forward=90", "data.sequence_length=64"},
      {"model.family=gpt2", "model.context=9000", "data.sequence_length=1",
       "batch={tokens_per_step: 1, micro_batch: 1}"}};
  for (std::vector<std::string> overrides : cases) {
    INFO(overrides.back());
    overrides.push_back("run.device=cpu");
    Config wide_config = parse(minimal, overrides);
    overrides.push_back("run.precision=bf16");
    Config config = parse(minimal, overrides);
    const int64_t planned =
        plan_run(config).workspace_bytes - plan_run(wide_config).workspace_bytes;
    auto watched = std::make_unique<LargestAllocation>();
    LargestAllocation& seen = *watched;
    RoundingOps ops(std::move(watched), 1);
    run_pass(ops, config, seen);
    CHECK(planned <= seen.bytes());
    // Copies begin on cache lines.
    CHECK(planned > seen.bytes() - 9 * 64);
  }
}

TEST_CASE("plan: in bf16 alone the workspace holds the gradients of the largest verb") {
  // What is largest: both tables; gate and up; queries, keys and values with their biases.
  const std::vector<std::vector<std::string>> cases = {
      {"model.vocabulary=3000", "model.context=500"},
      {"model.family=llama", "model.feed_forward=900", "model.vocabulary=300"},
      {"model.family=gpt2", "model.width=128", "model.feed_forward=128", "model.context=256"}};
  for (std::vector<std::string> overrides : cases) {
    INFO(overrides.back());
    const auto workspace = [&](const std::string& level) {
      std::vector<std::string> all = overrides;
      all.insert(all.end(),
                 {"run.device=cpu", "run.precision=pure_bf16", "run.pure_bf16=" + level});
      Config config = parse(minimal, all);
      return plan_run(config).workspace_bytes;
    };
    overrides.emplace_back("run.device=cpu");
    Config config = parse(minimal, overrides);
    plan_run(config);
    auto watched = std::make_unique<LargestAllocation>(make_ops(Device::cpu, Precision::bf16, 1));
    LargestAllocation& seen = *watched;
    Bf16GradientsOps ops(std::move(watched), [](Tensor, ConstTensor) {});
    run_pass(ops, config, seen);
    CHECK(workspace("gradients") - workspace("weights") == seen.bytes());
    CHECK(workspace("forward") == workspace("gradients"));
  }
}

TEST_CASE("plan: the workspace holds what the CPU's kernels keep") {
  const auto workspace = [](const std::vector<std::string>& overrides) {
    std::vector<std::string> all = {"run.threads=1", "model.family=llama", "model.dropout=0"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    Config config = parse(minimal, all);
    return plan_run(config).workspace_bytes;
  };
  const int64_t one = workspace({});
  // Scores of 64 queries and their gradients, and a row of factors: for each thread.
  CHECK(workspace({"run.threads=3"}) - one == 2 * (2 * 64 * 256 + 256) * 4);
  // Rotary tables of half a head beside half a head.
  const std::vector<std::string> learned = {"model.family=gpt2"};
  const int64_t parameters = 257 * 32 + 256 * 32 + 2 * (12 * 32 * 32 + 13 * 32) + 2 * 32;
  const int64_t norms = 4 * 256 / 64 * 2 * 32;
  const int64_t scratch = 2 * 64 * 256 + 256;
  const int64_t batch = 2 * 4 * 256;
  CHECK(workspace(learned) >= (norms + scratch + batch) * 4);
  CHECK(workspace(learned) <= (norms + scratch + batch + parameters / 64) * 4);
  CHECK(one - workspace({"model.head_size=2"}) >= 256 * (8 - 2) * 4);
}

TEST_CASE("plan: a vocabulary smaller than the tokenizer's is refused") {
  Config config = parse(minimal, {"model.vocabulary=100"});
  CHECK_THROWS_AS(plan_run(config), Error);
}

TEST_CASE("plan: the vocabulary of shards is that of all of them, as in the run") {
  const TemporaryFolder folder;
  const std::string train = folder.path() + "/t.bin", validation = folder.path() + "/v.bin";
  write_shard(train, std::vector<uint16_t>{1, 2, 300});
  write_shard(validation, std::vector<uint16_t>{1, 400});
  const std::vector<std::string> shards = {"data.train=[" + train + "]",
                                           "data.validation={a: [" + validation + "]}"};
  Config config = parse(minimal, shards);
  plan_run(config);
  CHECK(config.model.vocabulary == 401);
  CHECK(open_corpus(parse(minimal, shards)).vocabulary == 401);
}

TEST_CASE("plan: a recipe whose set is not there yet is planned where it says its vocabulary") {
  const std::vector<std::string> absent = {"data.train=[nowhere/train-*.bin]",
                                           "data.validation=[nowhere/val-*.bin]"};
  std::vector<std::string> stated = absent;
  stated.push_back("model.vocabulary=400");
  Config config = parse(minimal, stated);
  const RunPlan plan = plan_run(config);
  CHECK(config.model.vocabulary == 400);
  CHECK(plan.total_bytes > 0);
  REQUIRE(plan.warnings.size() == 1);
  INFO(plan.warnings.front());
  CHECK(plan.warnings.front().find("nowhere/train-*.bin: no file matches") != std::string::npos);
  Config unknown = parse(minimal, absent);
  CHECK_THROWS_AS(plan_run(unknown), Error);
}

TEST_CASE("plan: every recipe of the Curse of Depth can be planned before its set is there") {
  struct Size {
    const char* name;
    int64_t parameters;
    int64_t batches;  // of its evaluation: 10 million tokens, 195.26 a sequence
  };
  // Counted from the reference's configurations; batches as its scripts have them.
  const Size sizes[] = {{"60m", 58'073'600, 201},
                        {"130m", 134'105'856, 801},
                        {"250m", 247'370'496, 101},
                        {"350m", 367'969'280, 101},
                        {"1b", 1'339'082'752, 201}};
  for (const Size& size : sizes) {
    for (const char* placement : {"pre", "post", "deepnorm", "mix", "lns"}) {
      INFO(size.name << " " << placement);
      Config config = load_config(std::string(SOURCE_DIRECTORY) + "/tools/recipes/llama-" +
                                      size.name + "-" + placement + ".yaml",
                                  {});
      const RunPlan plan = plan_run(config);
      CHECK(plan.parameters == size.parameters);
      CHECK(plan.tokens_per_step == 131072);
      const double tokens_of_batch = 195.26 * double(config.evaluation.reference_batch);
      CHECK(int64_t(double(config.evaluation.tokens) / tokens_of_batch) + 1 == size.batches);
    }
  }
}
