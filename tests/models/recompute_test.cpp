// What backward computes again is what it would have kept, bit for bit.
#include <algorithm>

#include "catch.h"
#include "tests/models/tiny.h"
#include "tests/models/watching_ops.h"

namespace normlab {
namespace {

std::vector<TinyCase> cases() {
  std::vector<TinyCase> cases = tiny_cases();
  for (const TinyCase& tiny : placement_cases()) cases.push_back(tiny);
  for (const bool is_llama : {false, true}) {
    TinyCase dropped{is_llama ? "llama with dropout" : "gpt2 with dropout",
                     is_llama ? tiny_llama() : tiny_gpt2()};
    dropped.config.dropout = 0.5;
    cases.push_back(dropped);
  }
  return cases;
}

Workload with(Workload workload, Recompute recompute) {
  workload.recompute = recompute;
  return workload;
}

// What is shown of a pass, backward included: each once.
class Shown final : public Probe {
 public:
  explicit Shown(const TinyModel& model) : model_(model) {}
  void activation(ProbeSite site, int64_t layer, Tensor tensor, int64_t first_row) override {
    seen.push_back(
        {static_cast<double>(site), static_cast<double>(layer), static_cast<double>(first_row)});
    seen.push_back(model_.read(tensor));
  }
  void gradient(ProbeSite site, int64_t layer, Tensor tensor, int64_t first_row) override {
    activation(site, layer, tensor, first_row);
  }
  std::vector<std::vector<double>> seen;

 private:
  const TinyModel& model_;
};

struct Outcome {
  std::vector<double> gradients;
  std::vector<NormStdSums> stds;
  std::vector<std::vector<double>> shown;
  int64_t bytes = 0;
};

// Of two passes, the second of a shorter batch; then of one that is looked at.
Outcome outcome(Ops& ops, const TinyCase& tiny, const Workload& workload,
                const std::vector<double>& gates) {
  WatchingOps watching(ops);  // what is read before it was written is NaN
  TinyModel model(watching, tiny.config, workload);
  Outcome found;
  found.bytes = watching.allocated_bytes();
  model.set_gates(gates);
  const HostBatch host = random_batch(tiny.config, tiny.batch, tiny.tokens);
  model.backward(host);
  if (!is_elementwise(tiny.config.norm.kind)) {
    model.model.zero_norm_stds();
    model.losses(host, Pass::training);
    model.model.add_norm_stds(model.upload(host));
    found.stds = model.model.download_norm_stds();
  }
  model.backward(random_batch(tiny.config, 1, tiny.tokens - 4, 3));
  Shown shown(model);
  model.backward(host, Pass::training, &shown);
  found.gradients = model.gradients();
  found.shown = std::move(shown.seen);
  return found;
}

}  // namespace

TEST_CASE("recompute: gradients, stds and what is shown are those of a model that keeps all") {
  const auto ops = single_precision();
  for (const TinyCase& tiny : cases()) {
    const Workload workload = training(tiny.batch, tiny.tokens);
    const Outcome kept = outcome(*ops, tiny, workload, {1});
    for (const Recompute recompute : {Recompute::mlp, Recompute::block}) {
      INFO(tiny.name << (recompute == Recompute::mlp ? ", mlp" : ", block"));
      const Outcome again = outcome(*ops, tiny, with(workload, recompute), {1});
      CHECK(same_bits(again.gradients, kept.gradients));
      CHECK((again.shown == kept.shown));
      CHECK(std::ranges::equal(again.stds, kept.stds, {}, &NormStdSums::others,
                               &NormStdSums::others));
      CHECK(again.stds.size() == kept.stds.size());
      CHECK(again.bytes < kept.bytes);
    }
  }
}

TEST_CASE(
    "recompute: values whose norm is apart from that of queries and keys are computed again") {
  const auto ops = single_precision();
  const TinyCase tiny{"gpt2", tiny_gpt2()};
  Workload workload = training(tiny.batch, tiny.tokens);
  workload.attention_norms = AttentionNorms::apart;
  const std::vector<double> gates = {1, 0, 0.5, 0, 1};
  const Outcome kept = outcome(*ops, tiny, workload, gates);
  for (const Recompute recompute : {Recompute::mlp, Recompute::block}) {
    const Outcome again = outcome(*ops, tiny, with(workload, recompute), gates);
    CHECK(same_bits(again.gradients, kept.gradients));
  }
}

TEST_CASE("recompute: GPT-2's activations shrink to those of a layer, and a stream for each") {
  const ModelConfig config = gpt2_config("small");
  const Workload workload = training(4, 1024);
  const auto activations = [&](Recompute recompute) {
    return static_cast<double>(
        measure_model(config, with(workload, recompute), number_types(Precision::fp32))
            .activations_bytes);
  };
  // Bytes of (N,C): 3 of qkv, 1 of z, 4 each of hidden and activated, 2 of the joint within a
  // layer; and of attention's log-sum-exp (B·H,T).
  const double one = 4 * 1024 * 768 * 4, lse = 4 * 12 * 1024 * 4;
  const double kept = activations(Recompute::none);
  CHECK(kept - activations(Recompute::mlp) == 11 * 8 * one);
  CHECK(kept - activations(Recompute::block) == 11 * (14 * one + lse));
}

}  // namespace normlab
