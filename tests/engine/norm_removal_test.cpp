// σ of each site, and when it moves; tests/engine/fake_ln_test.cpp compares whole runs with
// PyTorch.
#include "engine/norm_removal.h"

#include <nlohmann/json.hpp>

#include "catch.h"
#include "config_text.h"
#include "data/token_corpus.h"
#include "engine/evaluation.h"
#include "small_model.h"

using namespace normlab;
using namespace normlab::test;

namespace {

// Steps of a small GPT-2 whose weights stay: two ragged sequences, anew in each step.
class Steps {
 public:
  explicit Steps(const std::string& yaml, Family family = Family::gpt2, int32_t end_of_text = -1)
      : ops_(make_ops(Device::cpu, Precision::fp64, 1)),
        model(*ops_, small_config(family), {2, 12, Purpose::training, AttentionNorms::apart}),
        removal(model, parse(minimal, {"norm_removal=" + yaml}).norm_removal, end_of_text),
        end_of_text_(end_of_text),
        uploader_(*ops_, 2, 12) {
    model.initialize(11);
  }

  // Update number `step` + 1; returns what happened to norms.
  std::vector<RemovalEvent> update(int64_t step) {
    HostBatch host;
    host.sequences = 2;
    host.tokens_per_sequence = 12;
    for (int64_t i = 0; i < 24; ++i) {
      host.tokens.push_back(static_cast<int32_t>((7 * i + 5 * step) % 19));
      host.targets.push_back(static_cast<int32_t>((3 * i + step) % 19));
    }
    host.lengths = {12, 7};
    host.token_count = 19;
    const auto events = removal.begin_step(step);
    const Batch batch = uploader_.upload(host, 0, 2);
    model.forward(batch, Pass::training);
    // What the removal is to make of it, from the model's own sums.
    model.zero_norm_stds();
    model.add_norm_stds(batch);
    means.clear();
    const std::vector<NormStdSums> sums = model.download_norm_stds();
    const TokenCounts counts = count_tokens(host, end_of_text_);
    for (size_t i = 0; i < sums.size(); ++i) {
      const NormState& norm = model.norm_sites()[i].state;
      const int64_t special = (norm.special_first ? counts.first : 0) +
                              (norm.special_id >= 0 ? counts.ends_of_text : 0);
      means.push_back(sums[i].others / static_cast<double>(counts.total - special));
    }
    model.zero_norm_stds();
    removal.add(batch);
    removal.end_step(step + 1, counts);
    return events;
  }
  NormState state(NormRole role, int64_t layer) const {
    return model.norm_sites()[index(role, layer)].state;
  }
  double sigma(NormRole role, int64_t layer) const {
    return removal.records().at(index(role, layer)).state.sigma;
  }
  double mean(NormRole role, int64_t layer) const { return means.at(index(role, layer)); }
  size_t index(NormRole role, int64_t layer) const {
    for (size_t i = 0; i < model.norm_sites().size(); ++i) {
      const NormSite& site = model.norm_sites()[i];
      if (site.role == role && site.layer == layer) return i;
    }
    return model.norm_sites().size();
  }

 private:
  std::unique_ptr<Ops> ops_;

 public:
  Model model;
  NormRemoval removal;
  std::vector<double> means;  // std of each site in the last update

 private:
  int32_t end_of_text_;
  BatchUploader uploader_;
};

constexpr NormRole qk = NormRole::attention_qk;
constexpr NormRole v = NormRole::attention_v;

}  // namespace

TEST_CASE("norm removal: σ is a running mean by step that begins with the first step's") {
  Steps steps("{mlp: {start: 3, gap: 2, momentum: 0.25}}");
  CHECK(steps.removal.records().empty());
  steps.update(0);
  double expected = steps.mean(NormRole::mlp, 0);
  CHECK(steps.sigma(NormRole::mlp, 0) == Approx(expected).epsilon(1e-14));
  CHECK(steps.sigma(NormRole::final, -1) == 0);  // not to be removed
  for (int64_t step = 1; step < 3; ++step) {
    steps.update(step);
    expected = 0.25 * expected + 0.75 * steps.mean(NormRole::mlp, 0);
    CHECK(steps.sigma(NormRole::mlp, 0) == Approx(expected).epsilon(1e-14));
  }
}

TEST_CASE("norm removal: at step s the norm is frozen with the σ of s updates, and σ stays") {
  Steps steps("{mlp: {start: 3, gap: 2}}");
  for (int64_t step = 0; step < 3; ++step) {
    CHECK(steps.update(step).empty());
    CHECK(steps.state(NormRole::mlp, 0).live());
  }
  const double sigma = steps.mean(NormRole::mlp, 0);  // momentum 0: the last step's
  const auto events = steps.update(3);
  REQUIRE(events.size() == 1);
  CHECK(events[0].layer == 0);
  CHECK(steps.state(NormRole::mlp, 0).gate == 0);
  CHECK(steps.state(NormRole::mlp, 0).sigma == Approx(sigma).epsilon(1e-14));
  CHECK(steps.state(NormRole::mlp, 1).live());
  CHECK(steps.mean(NormRole::mlp, 0) != Approx(sigma).epsilon(1e-6));
  steps.update(4);
  CHECK(steps.update(5).size() == 1);
  CHECK_FALSE(steps.state(NormRole::mlp, 1).live());
  CHECK(steps.sigma(NormRole::mlp, 0) == Approx(sigma).epsilon(1e-14));
}

TEST_CASE("norm removal: the shared σ of attention moves until values go, separate ones alone") {
  const std::string phases = "attention_qk: {start: 1}, attention_v: {start: 3}";
  Steps shared("{" + phases + "}");
  Steps separate("{" + phases + ", std: separate}");
  std::vector<double> stds;
  for (int64_t step = 0; step < 5; ++step) {
    shared.update(step);
    separate.update(step);
    stds.push_back(shared.mean(qk, 0));
    const size_t last = std::min<size_t>(stds.size(), 3) - 1;
    CHECK(shared.sigma(qk, 0) == Approx(stds[last]).epsilon(1e-14));
    CHECK(shared.sigma(v, 0) == shared.sigma(qk, 0));
    CHECK(shared.state(qk, 0).live() == (step < 1));
    CHECK(shared.state(v, 0).live() == (step < 3));
    // What queries and keys are computed with from here on.
    if (step >= 1) CHECK(shared.state(qk, 0).sigma == shared.sigma(qk, 0));
    CHECK(separate.sigma(qk, 0) == Approx(stds[0]).epsilon(1e-14));
  }
  CHECK(stds[0] != Approx(stds[2]).epsilon(1e-6));
  CHECK(separate.state(v, 0).sigma != Approx(separate.state(qk, 0).sigma).epsilon(1e-6));
}

TEST_CASE("norm removal: a taper holds σ from its beginning") {
  Steps steps("{final: {start: 2}, method: taper, taper_steps: 3}");
  steps.update(0);
  steps.update(1);
  const double sigma = steps.sigma(NormRole::final, -1);
  CHECK(steps.update(2).size() == 1);
  CHECK(steps.state(NormRole::final, -1).gate == Approx(0.75).epsilon(1e-14));
  CHECK(steps.state(NormRole::final, -1).sigma == sigma);
  steps.update(3);
  CHECK(steps.state(NormRole::final, -1).gate == Approx(0.25).epsilon(1e-14));
  CHECK(steps.update(4).size() == 1);
  CHECK(steps.state(NormRole::final, -1).gate == 0);
  CHECK(steps.sigma(NormRole::final, -1) == sigma);
}

TEST_CASE("norm removal: an update that comes to nothing leaves no norm removed") {
  Steps steps("{mlp: {start: 1}}");
  steps.update(0);
  steps.removal.begin_step(1);
  CHECK_FALSE(steps.state(NormRole::mlp, 0).live());
  steps.removal.cancel_step(1);
  CHECK(steps.state(NormRole::mlp, 0).live());
}

TEST_CASE("norm removal: a run that is restored goes on with the same gates and σ") {
  const std::string removal =
      "{mlp: {start: 2, gap: 2, momentum: 0.5}, attention_qk: {start: 3, momentum: 0.5}, "
      "attention_v: {start: 5}, final: {start: 6}, method: taper, taper_steps: 2}";
  for (int64_t break_at = 1; break_at < 8; ++break_at) {
    Steps first(removal), second(removal);
    for (int64_t step = 0; step < break_at; ++step) first.update(step);
    second.removal.restore(norms_from_json(norms_to_json(first.removal.records())));
    for (size_t i = 0; i < first.model.norm_sites().size(); ++i) {
      CHECK(first.model.norm_sites()[i].state == second.model.norm_sites()[i].state);
    }
    first.update(break_at);
    second.update(break_at);
    for (size_t i = 0; i < first.model.norm_sites().size(); ++i) {
      CHECK(first.model.norm_sites()[i].state == second.model.norm_sites()[i].state);
      CHECK(first.removal.records()[i].state.sigma == second.removal.records()[i].state.sigma);
    }
  }
}

TEST_CASE("norm removal: special tokens have a σ of their own until their phase ends it") {
  // The host batch's token 4 plays the end of text.
  Steps steps(
      "{mlp: {start: 2}, attention_v: {start: 2}, special_std: true, eot: {start: 3}, "
      "bos: {start: 4}}",
      Family::gpt2, 4);
  steps.update(0);
  const auto ratio = [&](NormRole role) {
    return steps.sigma(role, 0) / steps.removal.records()[steps.index(role, 0)].state.special_sigma;
  };
  CHECK(steps.sigma(v, 0) == Approx(steps.mean(v, 0)).epsilon(1e-13));
  CHECK(ratio(v) != Approx(1).epsilon(1e-6));
  CHECK(ratio(NormRole::mlp) != Approx(1).epsilon(1e-6));
  steps.update(1);
  const NormState before = steps.state(v, 0);
  CHECK((before.live() && before.special_first && before.special_id == 4));
  CHECK(steps.state(NormRole::mlp, 0).special_id == -1);  // only values know ends of text
  steps.update(2);
  CHECK(steps.state(v, 0).gate == 0);
  CHECK(steps.state(v, 0).special_sigma > 0);
  const auto events = steps.update(3);
  REQUIRE(events.size() == 2);
  CHECK((events[0].kind == RemovalEventKind::eot && events[0].role == v));
  CHECK((steps.state(v, 0).special_first && steps.state(v, 0).special_id == -1));
  CHECK(steps.update(4).size() == 4);
  CHECK_FALSE(steps.state(v, 0).has_special());
  CHECK_FALSE(steps.state(NormRole::mlp, 1).has_special());
}

TEST_CASE("norm removal: tokens are counted by what is special to a norm") {
  HostBatch batch;
  batch.sequences = 3;
  batch.tokens_per_sequence = 4;
  batch.tokens = {9, 1, 9, 9, 1, 9, 2, 3, 9, 9, 9, 9};
  batch.lengths = {3, 4, 0};
  batch.token_count = 7;
  const TokenCounts counts = count_tokens(batch, 9);
  CHECK(counts.total == 7);
  CHECK(counts.first == 2);
  CHECK(counts.first_ends == 1);
  CHECK(counts.ends_of_text == 2);
}

TEST_CASE("norm removal: of LLaMA's RMSNorms σ is the root of the mean square") {
  Steps steps("{mlp: {start: 1}, final: {start: 1}}", Family::llama);
  steps.update(0);
  CHECK(steps.sigma(NormRole::mlp, 0) == Approx(steps.mean(NormRole::mlp, 0)).epsilon(1e-14));
  steps.update(1);
  CHECK_FALSE(steps.state(NormRole::final, -1).live());
}

TEST_CASE("norm states: what is written is read back, and what cannot be is refused") {
  const std::vector<NormRecord> norms = {{NormRole::mlp, 3, {0.25, 1.0 / 3}},
                                         {NormRole::final, -1, {0, 17.5}}};
  const auto again = norms_from_json(nlohmann::json::parse(norms_to_json(norms).dump()));
  REQUIRE(again.size() == 2);
  CHECK(again[0].role == NormRole::mlp);
  CHECK(again[0].layer == 3);
  CHECK(again[0].state.gate == 0.25);
  CHECK(again[0].state.sigma == 1.0 / 3);
  CHECK(again[1].layer == -1);
  for (const char* bad : {R"([{"site": "ln_2", "layer": 0, "gate": 0, "std": 1}])",
                          R"([{"site": "mlp", "layer": 0, "gate": 2, "std": 1}])",
                          R"([{"site": "mlp", "layer": 0, "gate": 0, "std": 0}])",
                          R"([{"site": "mlp", "layer": 0, "gate": 0, "std": -1}])"}) {
    INFO(bad);
    CHECK_THROWS_AS(norms_from_json(nlohmann::json::parse(bad)), Error);
  }
  SmallModel small(small_config(Family::gpt2));
  CHECK_THROWS_AS(set_norm_states(small.model, {{NormRole::mlp, 2, {0, 1}}}), Error);
  CHECK_THROWS_AS(
      set_norm_states(small.model, {{NormRole::mlp, 1, {0, 1}}, {NormRole::mlp, 1, {0, 2}}}),
      Error);
}
