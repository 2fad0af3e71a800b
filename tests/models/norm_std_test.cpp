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
    shown_.push_back(statistics);
    double sum = 0;
    for (int64_t b = 0; b < host_.batch; ++b) {
      for (int64_t t = 0; t < host_.length(b); ++t) {
        sum += 1 / statistics[static_cast<size_t>(2 * (b * host_.tokens + t) + 1)];
      }
    }
    sums.push_back(sum);
  }

  // Of a norm in the order of the pass.
  double std(size_t norm, int64_t sequence, int64_t token) const {
    return 1 / shown_[norm][static_cast<size_t>(2 * (sequence * host_.tokens + token) + 1)];
  }

  std::vector<double> sums;

 private:
  TinyModel& model_;
  const HostBatch& host_;
  std::vector<std::vector<double>> shown_;
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
  const std::vector<NormStdSums> sums = tiny.model.download_norm_stds();
  const std::vector<NormSite>& sites = tiny.model.norm_sites();
  REQUIRE(sums.size() == sites.size());
  size_t shown = 0;
  for (size_t i = 0; i < sites.size(); ++i) {
    if (sites[i].role == NormRole::attention_v) {
      CHECK(sums[i].others == sums[i - 1].others);  // queries, keys and values read one stream
      continue;
    }
    CHECK(sums[i].others == Approx(2 * probe.sums.at(shown++)).epsilon(1e-12));
  }
  CHECK(shown == probe.sums.size());
}

TEST_CASE("norm stds: those of special tokens are summed apart") {
  const auto ops = double_precision();
  TinyModel tiny(*ops, tiny_gpt2(), training(3, 21));
  const HostBatch host = random_batch(tiny.model.config(), 3, 21);
  const int32_t id = host.ids[4];
  const auto sums_of = [&](const NormState& state) {
    for (size_t i = 0; i < tiny.model.norm_sites().size(); ++i) tiny.model.set_norm_state(i, state);
    tiny.model.zero_norm_stds();
    const Batch batch = tiny.upload(host);
    tiny.model.forward(batch, Pass::training);
    tiny.model.add_norm_stds(batch);
    return tiny.model.download_norm_stds();
  };
  // Live, so that all have the same stream.
  const auto all = sums_of({});
  const auto apart = sums_of({.special_first = true, .special_id = id});
  StdProbe probe(tiny, host);
  tiny.losses(host, Pass::training, &probe);
  for (size_t i = 0; i < all.size(); ++i) {
    CHECK(all[i].special == 0);
    CHECK(apart[i].special > 0);
    CHECK(apart[i].others + apart[i].special == Approx(all[i].others).epsilon(1e-12));
  }
  double expected = 0;
  const auto counts = [&](int64_t b, int64_t t) {
    return t == 0 || host.ids[static_cast<size_t>(b * host.tokens + t)] == id;
  };
  for (int64_t b = 0; b < host.batch; ++b) {
    for (int64_t t = 0; t < host.length(b); ++t) {
      if (counts(b, t)) expected += probe.std(0, b, t);
    }
  }
  CHECK(apart[0].special == Approx(expected).epsilon(1e-12));
}

// A frozen norm is linear: one whose special tokens divide by 2σ gives half as much for them.
TEST_CASE("special tokens: they alone are divided by their own σ, in every norm") {
  const auto ops = double_precision();
  ModelConfig config = tiny_gpt2();
  config.layers = 1;
  TinyModel tiny(*ops, config, training(2, 21));
  const HostBatch host = random_batch(config, 2, 21);
  const int32_t id = host.ids[7];
  const auto final_rows = [&](const NormState& last) {
    tiny.set_gates({0});
    tiny.model.set_norm_state(tiny.model.norm_sites().size() - 1, last);
    const Parameter& bias =
        tiny.model.parameters()[static_cast<size_t>(tiny.model.norm_sites().back().bias)];
    tiny.write(bias.value, std::vector<double>(static_cast<size_t>(config.width), 0));
    tiny.losses(host);
    return tiny.read(tiny.model.final_activation());
  };
  const auto plain = final_rows({.gate = 0, .sigma = 0.8});
  const auto special = final_rows(
      {.gate = 0, .sigma = 0.8, .special_sigma = 1.6, .special_first = true, .special_id = id});
  for (size_t i = 0; i < plain.size(); ++i) {
    const size_t row = i / static_cast<size_t>(config.width);
    const bool half = row % 21 == 0 || host.ids[row] == id;
    CHECK(special[i] == Approx(half ? plain[i] / 2 : plain[i]).epsilon(1e-13));
  }
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
