// Gradients of whole models against central finite differences, in double precision.
#include "tests/models/gradient_check.h"

namespace normlab {
namespace {

TinyCase tiny_case(const std::string& name) {
  for (const TinyCase& tiny : tiny_cases()) {
    if (tiny.name == name) return tiny;
  }
  throw Error("no such tiny case: " + name);
}

TinyCase with_dropout(const std::string& name) {
  TinyCase tiny = tiny_case(name);
  tiny.config.dropout = 0.5;
  return tiny;
}

}  // namespace

TEST_CASE("model gradients: gpt2 equals finite differences") {
  GradientCheck(tiny_case("gpt2 pre")).check_all();
}

TEST_CASE("model gradients: llama equals finite differences") {
  GradientCheck(tiny_case("llama pre")).check_all();
}

TEST_CASE("model gradients: post placement equals finite differences") {
  for (const TinyCase& tiny : tiny_cases()) {
    if (tiny.config.norm.placement != NormPlacement::post) continue;
    DYNAMIC_SECTION(tiny.name) { GradientCheck(tiny).check_all(); }
  }
}

TEST_CASE("model gradients: every other architecture equals finite differences") {
  const std::vector<TinyCase> cases = tiny_cases();
  for (size_t i = 2; i < cases.size(); ++i) {
    if (cases[i].config.norm.placement == NormPlacement::post) continue;
    DYNAMIC_SECTION(cases[i].name) { GradientCheck(cases[i]).check_all(); }
  }
}

TEST_CASE("model gradients: under dropout backward sees the masks of forward") {
  for (const char* name : {"gpt2 pre", "llama pre", "gpt2 post untied"}) {
    DYNAMIC_SECTION(name) { GradientCheck(with_dropout(name)).check_all(); }
  }
}

TEST_CASE("model gradients: tapering and frozen norms equal finite differences") {
  const std::vector<std::pair<std::string, std::vector<double>>> removals{
      {"tapering", {0.3}}, {"frozen", {0}}, {"each in turn", {1, 0.3, 0}}};
  for (const auto& [state, gates] : removals) {
    for (const char* name : {"gpt2 pre", "llama post tied, one key head of 20"}) {
      DYNAMIC_SECTION(name << ", " << state) { GradientCheck(tiny_case(name), gates).check_all(); }
    }
  }
}

TEST_CASE("norm sites: a gate of 1 is live to the bit, other gates change the losses") {
  const auto ops = single_precision();
  const ModelConfig config = tiny_gpt2();
  TinyModel tiny(*ops, config, training(2, 21));
  const HostBatch host = random_batch(config, 2, 21);
  const std::vector<double> live = tiny.losses(host);
  tiny.set_gates({1});
  CHECK(same_bits(tiny.losses(host), live));
  tiny.set_gates({0.3});
  const std::vector<double> tapering = tiny.losses(host);
  CHECK(relative_error(tapering, live) > 1e-3);
  tiny.set_gates({0});
  CHECK(relative_error(tiny.losses(host), tapering) > 1e-3);
}

}  // namespace normlab
