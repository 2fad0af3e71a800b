#include "engine/plan.h"

#include "catch.h"
#include "config_text.h"
#include "engine/corpus.h"
#include "engine/optimizer.h"
#include "engine/trainer.h"
#include "temporary_folder.h"

using namespace normlab;
using namespace normlab::test;

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
