// What the removal of norms needs of a model: stds by site, the auxiliary loss, and values apart.
#include <cmath>
#include <map>

#include "catch.h"
#include "tests/models/tiny.h"

namespace normlab {
namespace {

// Reads 1/std of every norm that a pass shows, in the order of the pass.
class StdProbe final : public Probe {
 public:
  StdProbe(TinyModel& model, const HostBatch& host) : model_(model), host_(host) {}

  void activation(ProbeSite site, int64_t, Tensor tensor, int64_t) override {
    if (site != ProbeSite::norm_std) return;
    const std::vector<double> statistics = model_.read(tensor);
    double sum = 0;
    for (int64_t b = 0; b < host_.batch; ++b) {
      for (int64_t t = 0; t < host_.length(b); ++t) {
        sum += 1 / statistics[static_cast<size_t>(2 * (b * host_.tokens + t) + 1)];
      }
    }
    sums.push_back(sum);
  }

  std::vector<double> sums;

 private:
  TinyModel& model_;
  const HostBatch& host_;
};

}  // namespace

TEST_CASE("norm stds: each site sums those of the tokens that count, over batches") {
  const auto ops = double_precision();
  TinyModel tiny(*ops, tiny_gpt2(), training(3, 21));
  tiny.set_gates({1, 0, 0.4});
  const HostBatch host = random_batch(tiny.model.config(), 3, 21);
  StdProbe probe(tiny, host);
  tiny.losses(host, Pass::training, &probe);
  tiny.model.zero_norm_stds();
  for (int i = 0; i < 2; ++i) {
    const Batch batch = tiny.upload(host);
    tiny.model.forward(batch, Pass::training);
    tiny.model.add_norm_stds(batch);
  }
  const std::vector<double> sums = tiny.model.download_norm_stds();
  const std::vector<NormSite>& sites = tiny.model.norm_sites();
  REQUIRE(sums.size() == sites.size());
  size_t shown = 0;
  for (size_t i = 0; i < sites.size(); ++i) {
    if (sites[i].role == NormRole::attention_v) {
      CHECK(sums[i] == sums[i - 1]);  // queries, keys and values read one stream
      continue;
    }
    CHECK(sums[i] == Approx(2 * probe.sums.at(shown++)).epsilon(1e-12));
  }
  CHECK(shown == probe.sums.size());
}

// Loss and auxiliary loss against finite differences, the target given.
TEST_CASE("auxiliary loss: its gradient reaches every parameter below the final norm") {
  const auto ops = double_precision();
  TinyModel tiny(*ops, tiny_gpt2(), training(2, 13));
  const HostBatch host = random_batch(tiny.model.config(), 2, 13);
  ops->set_step_state({.loss_scale = 0, .std_loss_scale = 0.05});
  tiny.model.set_std_loss(StdLoss{.group = 2, .given_target = 1.3});
  const auto loss = [&] {
    tiny.zero_gradients();
    ops->zero_loss();
    tiny.backward(host);
    return ops->download_step_result().std_loss;
  };
  loss();
  const std::vector<Parameter>& parameters = tiny.model.parameters();
  std::vector<std::vector<double>> gradients;
  for (const Parameter& parameter : parameters) gradients.push_back(tiny.read(parameter.gradient));
  for (size_t i = 0; i < parameters.size(); ++i) {
    INFO(parameters[i].name);
    if (parameters[i].name.starts_with("final.norm")) {
      CHECK(gradients[i] == std::vector<double>(gradients[i].size()));
      continue;
    }
    std::vector<double> values = tiny.read(parameters[i].value);
    const size_t e = values.size() / 3;
    constexpr double kStep = 1e-5;
    const double value = values[e];
    values[e] = value + kStep;
    tiny.write(parameters[i].value, values);
    const double above = loss();
    values[e] = value - kStep;
    tiny.write(parameters[i].value, values);
    const double below = loss();
    values[e] = value;
    tiny.write(parameters[i].value, values);
    CHECK(gradients[i][e] == Approx((above - below) / (2 * kStep)).epsilon(1e-5).margin(1e-9));
  }
}

TEST_CASE("values apart: as near to one product for all as their σ are to each other") {
  const auto ops = double_precision();
  TinyModel tiny(*ops, tiny_gpt2(), training(2, 21));
  const HostBatch host = random_batch(tiny.model.config(), 2, 21);
  const auto run = [&](double share) {
    for (size_t i = 0; i < tiny.model.norm_sites().size(); ++i) {
      const bool values = tiny.model.norm_sites()[i].role == NormRole::attention_v;
      tiny.model.set_norm_state(i, {0, values ? 0.8 * share : 0.8});
    }
    tiny.zero_gradients();
    tiny.backward(host);
    return tiny.gradients();
  };
  const std::vector<double> together = run(1);
  CHECK(relative_error(run(1 + 1e-9), together) < 1e-7);
  CHECK(relative_error(run(1.1), together) > 1e-2);
}

TEST_CASE("values apart: a model without the room for it says so") {
  const auto ops = double_precision();
  Workload workload = training(2, 21);
  workload.attention_norms = AttentionNorms::together;
  TinyModel tiny(*ops, tiny_gpt2(), workload);
  const HostBatch host = random_batch(tiny.model.config(), 2, 21);
  tiny.set_gates({0});
  CHECK_THROWS_AS(tiny.losses(host), Error);
  for (size_t i = 0; i < tiny.model.norm_sites().size(); ++i) tiny.model.set_norm_state(i, {0, 2});
  CHECK_NOTHROW(tiny.losses(host));
}

}  // namespace normlab
