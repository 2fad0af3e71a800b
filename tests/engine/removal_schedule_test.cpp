#include "engine/removal_schedule.h"

#include <cmath>
#include <numbers>

#include "catch.h"
#include "config_text.h"

using namespace normlab;
using namespace normlab::test;

namespace {

NormRemovalConfig removal(const std::string& yaml) {
  return parse(minimal, {"norm_removal=" + yaml}).norm_removal;
}

// Steps of the events of one place, layer by layer.
std::vector<int64_t> steps_of(const std::vector<RemovalEvent>& events, NormRole role) {
  std::vector<int64_t> steps;
  for (const RemovalEvent& event : events) {
    if (event.role == role) steps.push_back(event.step);
  }
  return steps;
}

std::vector<int64_t> from_to(int64_t first, int64_t last, int64_t gap) {
  std::vector<int64_t> steps;
  for (int64_t step = first; step <= last; step += gap) steps.push_back(step);
  return steps;
}

std::string check_complaint(const std::string& yaml, const std::vector<NormRecord>& norms = {},
                            const std::vector<std::string>& others = {}) {
  std::vector<std::string> overrides = {"norm_removal=" + yaml};
  overrides.insert(overrides.end(), others.begin(), others.end());
  try {
    check_removal(parse(minimal, overrides), norms);
  } catch (const Error& error) {
    return (error.kind() == ErrorKind::input ? "" : "WRONG KIND: ") + std::string(error.what());
  }
  return "";
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

// Tables 3 and 4 of "Transformers Don't Need LayerNorm at Inference Time".
TEST_CASE("removal: the recipes remove every norm at the paper's steps") {
  struct Row {
    const char* size;
    int64_t layers, tokens, steps;
    std::vector<int64_t> mlp, attention_qk, attention_v;
    int64_t final;
    double weight;
  };
  const Row rows[] = {{"small", 12, 524288, 300, from_to(20, 42, 2), from_to(44, 66, 2),
                       from_to(68, 101, 3), 104, 0.1},
                      {"medium", 24, 518144, 500, from_to(20, 66, 2), from_to(68, 114, 2),
                       from_to(116, 185, 3), 188, 0.1},
                      {"large", 36, 516096, 600, from_to(30, 170, 4), from_to(174, 314, 4),
                       from_to(318, 528, 6), 534, 0.03},
                      {"xl", 48, 516096, 800, from_to(50, 238, 4), from_to(242, 430, 4),
                       from_to(434, 716, 6), 722, 0.01}};
  for (const Row& row : rows) {
    INFO(row.size);
    const std::string name = std::string(SOURCE_DIRECTORY) + "/tools/recipes/gpt2-" + row.size;
    const Config config = load_config(name + "-ln-removal.yaml", {});
    const auto events = removal_schedule(config.norm_removal, row.layers);
    CHECK(steps_of(events, NormRole::mlp) == row.mlp);
    CHECK(steps_of(events, NormRole::attention_qk) == row.attention_qk);
    CHECK(steps_of(events, NormRole::attention_v) == row.attention_v);
    CHECK(steps_of(events, NormRole::final) == std::vector<int64_t>{row.final});
    CHECK(events.size() == static_cast<size_t>(3 * row.layers + 1));
    CHECK(config.norm_removal.auxiliary_loss_weight == row.weight);
    CHECK(config.norm_removal.auxiliary_group == config.batch.micro_batch);
    CHECK(config.batch.tokens_per_step == row.tokens);
    CHECK(config.schedule.stop_step == row.steps);
    CHECK(config.model.dropout == 0.1);
    const Config vanilla = load_config(name + "-vanilla.yaml", {});
    CHECK_FALSE(vanilla.norm_removal.is_given());
    CHECK(vanilla.schedule.stop_step == row.steps);
    CHECK(vanilla.optimizer.learning_rate == config.optimizer.learning_rate);
  }
}

// The papers' momentum of a call to the power of the calls of a step.
TEST_CASE("removal: the recipes' momenta are those of a step") {
  struct Row {
    const char* size;
    double call;
    int calls;
  };
  const Row rows[] = {{"small", 0.9, 16},
                      {"medium", 0.9, 23},
                      {"large", std::pow(0.9, 28 / 32.0), 18},
                      {"xl", std::pow(0.9, 18 / 32.0), 28}};
  for (const Row& row : rows) {
    INFO(row.size);
    const Config config = load_config(
        std::string(SOURCE_DIRECTORY) + "/tools/recipes/gpt2-" + row.size + "-ln-removal.yaml", {});
    const auto& phases = config.norm_removal.phases;
    const double once = std::pow(row.call, row.calls);
    CHECK(phases.at(NormRole::mlp).momentum == Approx(once).epsilon(1e-3));
    CHECK(phases.at(NormRole::final).momentum == Approx(once).epsilon(1e-3));
    CHECK(phases.at(NormRole::attention_qk).momentum == Approx(std::pow(once, 3)).epsilon(1e-3));
  }
}

TEST_CASE("removal: a gap of 0 removes all layers at once, and events come in the order of steps") {
  const auto events = removal_schedule(
      removal("{final: {start: 3}, mlp: {start: 5}, attention_v: {start: 4, gap: 1}}"), 2);
  const std::vector<std::pair<int64_t, NormRole>> expected = {{3, NormRole::final},
                                                              {4, NormRole::attention_v},
                                                              {5, NormRole::mlp},
                                                              {5, NormRole::mlp},
                                                              {5, NormRole::attention_v}};
  REQUIRE(events.size() == expected.size());
  for (size_t i = 0; i < events.size(); ++i) {
    CHECK(events[i].step == expected[i].first);
    CHECK(events[i].role == expected[i].second);
    CHECK(events[i].kind == RemovalEventKind::remove);
  }
  CHECK(events[0].layer == -1);
  CHECK(events[2].layer == 0);
  CHECK(events[3].layer == 1);
}

TEST_CASE("removal: the gate of a step falls at once, that of a taper by half a cosine") {
  const NormRemovalConfig step = removal("{mlp: {start: 10, gap: 2}}");
  // Step s: after s updates, so that update s + 1 is the first without it.
  CHECK(gate_at(step, NormRole::mlp, 0, 9) == 1);
  CHECK(gate_at(step, NormRole::mlp, 0, 10) == 0);
  CHECK(gate_at(step, NormRole::mlp, 1, 11) == 1);
  CHECK(gate_at(step, NormRole::mlp, 1, 12) == 0);
  const NormRemovalConfig taper =
      removal("{mlp: {start: 10, gap: 2}, method: taper, taper_steps: 4}");
  CHECK(gate_at(taper, NormRole::mlp, 0, 9) == 1);
  CHECK(gate_at(taper, NormRole::mlp, 0, 10) == Approx((1 + std::sqrt(0.5)) / 2).epsilon(1e-15));
  CHECK(gate_at(taper, NormRole::mlp, 0, 11) == Approx(0.5).epsilon(1e-15));
  CHECK(gate_at(taper, NormRole::mlp, 0, 12) == Approx((1 - std::sqrt(0.5)) / 2).epsilon(1e-15));
  CHECK(gate_at(taper, NormRole::mlp, 0, 13) == 0);
  const auto events = removal_schedule(taper, 1);
  REQUIRE(events.size() == 2);
  CHECK((events[0].kind == RemovalEventKind::taper && events[0].step == 10));
  CHECK((events[1].kind == RemovalEventKind::remove && events[1].step == 13));
}

TEST_CASE("removal: what a run cannot do is refused, with the key") {
  CHECK(check_complaint("{mlp: {start: 1, gap: 98}}").empty());
  CHECK(has(check_complaint("{mlp: {start: 1, gap: 99}}"),
            "norm_removal.mlp (its last norm would be removed at step 100, and "
            "schedule.total_steps is 100)"));
  CHECK(has(check_complaint("{final: {start: 98}, method: taper, taper_steps: 3}"),
            "norm_removal.final (its last norm would be removed at step 100"));
  CHECK(has(check_complaint("{attention: {start: 5}}"),
            "norm_removal.attention (the model has no such norm). It has: attention_qk, "
            "attention_v, mlp, final"));
  CHECK(has(check_complaint("{attention_v: {start: 5}}", {}, {"model.norm.placement=post"}),
            "norm_removal.attention_v (the model has no such norm)"));
  CHECK(has(check_complaint("{mlp: {start: 5}}", {}, {"model.norm.placement=sandwich"}),
            "norms are removed where model.norm.placement is pre, post or lns, and this one is "
            "sandwich"));
  CHECK(has(check_complaint("{mlp: {start: 5}}", {}, {"model.norm.kind=dyt"}),
            "norm_removal (model.norm.kind: dyt has no std that could be frozen)"));
  CHECK(check_complaint("{mlp: {start: 5}}", {}, {"model.norm.placement=lns"}).empty());
  CHECK(has(check_complaint("{mlp: {start: 5}}", {{NormRole::mlp, 1, {0, 1.5}}}),
            "norm_removal.mlp (mlp of layer 1 is removed already in the model that the run begins "
            "with). Delete it"));
  CHECK(check_complaint("{mlp: {start: 5}}", {{NormRole::final, -1, {0, 1.5}}}).empty());
  for (const char* placement : {"post", "none"}) {
    CHECK(has(check_complaint("{auxiliary_loss_weight: 0.1}", {},
                              {std::string("model.norm.placement=") + placement}),
              std::string("this one has ") + placement));
  }
  CHECK(has(check_complaint("{mlp: {start: 5}, special_std: true, eot: {start: 6}}"),
            "norm_removal.eot (ends of text have a std of their own at attention_v alone"));
  CHECK(has(check_complaint("{mlp: {start: 5}, special_std: true, bos: {start: 100}}"),
            "norm_removal.bos.start = 100 (schedule.total_steps is 100)"));
}

TEST_CASE("removal: another order than the paper's and norms that stay live are warned of") {
  const auto warnings = [](const std::string& yaml, const std::string& stop) {
    return removal_warnings(parse(minimal, {"norm_removal=" + yaml, "schedule.stop_step=" + stop}));
  };
  CHECK(warnings("{mlp: {start: 5, gap: 2}, final: {start: 7}}", "100").empty());
  const auto order = warnings("{mlp: {start: 5, gap: 2}, final: {start: 6}}", "100");
  REQUIRE(order.size() == 1);
  CHECK(
      has(order[0], "norm_removal.final begins at step 6, before norm_removal.mlp ends at step 7"));
  const auto special = warnings("{mlp: {start: 5}, special_std: true, bos: {start: 9}}", "100");
  CHECK(special.empty());  // no norm of values is removed, so ends of text are none of its own
  const std::string values = "attention_v: {start: 5}, special_std: true, bos: {start: 9}";
  CHECK(warnings("{" + values + ", eot: {start: 8}}", "100").empty());
  for (const auto& [yaml, stop] :
       {std::pair{"{" + values + "}", "100"}, {"{" + values + ", eot: {start: 20}}", "20"}}) {
    const auto stays = warnings(yaml, stop);
    REQUIRE(stays.size() == 1);
    CHECK(has(stays[0], "norm_removal.special_std stays to the end"));
  }
  const auto late = warnings("{mlp: {start: 5, gap: 5}, final: {start: 10}}", "10");
  REQUIRE(late.size() == 1);
  CHECK(has(late[0], "leaves 2 norms that are not removed before schedule.stop_step = 10"));
}

TEST_CASE("removal: its keys are read, written and read back") {
  const Config config = parse(
      minimal, {"norm_removal={mlp: {start: 20, gap: 2, momentum: 0.25}, attention_qk: {start: 30, "
                "momentum: 0.5}, attention_v: {start: 40, gap: 1}, final: {start: 50, momentum: "
                "0.125}, method: taper, taper_steps: 7, auxiliary_loss_weight: 0.1, "
                "auxiliary_group: 2, auxiliary_target: 3.5}"});
  const NormRemovalConfig& read = config.norm_removal;
  CHECK(read.phases.size() == 4);
  CHECK(read.phases.at(NormRole::mlp).gap == 2);
  CHECK(read.phases.at(NormRole::mlp).momentum == 0.25);
  CHECK(read.phases.at(NormRole::attention_v).start == 40);
  CHECK(read.std == StdSharing::shared);
  CHECK(read.method == RemovalMethod::taper);
  CHECK(read.taper_steps == 7);
  CHECK(read.auxiliary_loss_weight == 0.1);
  CHECK(read.auxiliary_group == 2);
  CHECK(read.auxiliary_target == 3.5);
  const Config again = parse(to_yaml(config));
  CHECK(to_yaml(again) == to_yaml(config));
  CHECK(again.norm_removal.phases.at(NormRole::final).momentum == 0.125);
  const Config separate =
      parse(minimal, {"norm_removal={attention_v: {start: 4, momentum: 0.5}, std: separate}"});
  CHECK(to_yaml(parse(to_yaml(separate))) == to_yaml(separate));
  CHECK(to_yaml(parse(minimal)).find("norm_removal") == std::string::npos);
  const Config special = parse(
      minimal, {"norm_removal={mlp: {start: 4}, special_std: true, bos: {start: 9}, eot: {start: "
                "8}}"});
  CHECK(special.norm_removal.special_std);
  CHECK(special.norm_removal.bos_start == 9);
  CHECK(special.norm_removal.eot_start == 8);
  CHECK(to_yaml(parse(to_yaml(special))) == to_yaml(special));
}

TEST_CASE("removal: keys that are wrong are refused with their line") {
  const auto wrong = [](const std::string& yaml) {
    return override_complaint("norm_removal=" + yaml);
  };
  CHECK(has(wrong("{mlp: {gap: 2}}"), "norm_removal.mlp.start is missing"));
  CHECK(has(wrong("{mlp: {start: 0}}"), "norm_removal.mlp.start = 0 (must be >= 1)"));
  CHECK(has(wrong("{final: {start: 4, gap: 1}}"), "norm_removal.final.gap = 1 (unknown key)"));
  CHECK(has(wrong("{mlp: {start: 4, momentum: 1}}"), "must be in [0, 1)"));
  CHECK(has(wrong("{attention_qk: {start: 2}, attention_v: {start: 4, momentum: 0.1}}"),
            "norm_removal.attention_v.momentum = 0.1 (norm_removal.std: shared has one"));
  CHECK(has(wrong("{mlp: {start: 4}, method: taper}"), "norm_removal.taper_steps is missing"));
  CHECK(
      has(wrong("{mlp: {start: 4}, taper_steps: 5}"), "norm_removal.method: step removes at once"));
  CHECK(has(wrong("{mlp: {start: 4}, policy: adaptive}"), "is not built yet"));
  CHECK(has(wrong("{auxiliary_loss_weight: 0.1, auxiliary_group: 3}"),
            "norm_removal.auxiliary_group = 3 (batch.micro_batch = 4 is not a multiple of it"));
  CHECK(has(complaint(minimal, {"norm_removal={auxiliary_loss_weight: 0.1, auxiliary_group: 2}",
                                "parallel={reproducible: true, shards: 3}"}),
            "norm_removal.auxiliary_group = 2 (with parallel.reproducible"));
  CHECK(has(wrong("{special_std: true, bos: {start: 9}}"), "names no norm to remove"));
  CHECK(has(wrong("{method: taper, taper_steps: 9}"), "names no norm to remove"));
  CHECK(has(wrong("{mlp: {start: 4}, auxiliary_target: 3}"), "so nothing is held to it"));
  CHECK(has(wrong("{mlp: {start: 4}, bos: {start: 9}}"), "no token has a std of its own"));
  CHECK(has(wrong("{mlp: {start: 4}, special_std: true, eot: {}}"),
            "norm_removal.eot.start is missing"));
  CHECK(has(wrong("{ln_2: {start: 4}}"), "norm_removal.ln_2 (unknown key)"));
}
