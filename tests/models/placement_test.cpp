// Every placement of norms: its gradients, and that no layer is idle.
#include <map>

#include "tests/models/gradient_check.h"

namespace normlab {
namespace {

// The logits of a case whose layer `silent` gives nothing; −1: none is silent.
std::vector<double> logits_without(Ops& ops, const TinyCase& tiny, int64_t silent) {
  TinyModel model(ops, tiny.config, inference(tiny.batch, tiny.tokens));
  for (const Parameter& parameter : model.model.parameters()) {
    const bool branch = parameter.name.ends_with(".out.weight") ||
                        parameter.name.ends_with(".out.bias") ||
                        parameter.name.ends_with(".output_norm.bias") ||
                        parameter.name.ends_with(".output_norm.shift");
    if (parameter.layer != silent || !branch) continue;
    model.write(parameter.value,
                std::vector<double>(static_cast<size_t>(parameter.value.elements())));
  }
  return model.logits(random_batch(tiny.config, tiny.batch, tiny.tokens));
}

}  // namespace

TEST_CASE("placements: gradients equal finite differences") {
  std::vector<TinyCase> cases = placement_cases();
  cases.pop_back();
  for (const TinyCase& tiny : cases) {
    DYNAMIC_SECTION(tiny.name) { GradientCheck(tiny).check_all(); }
  }
}

TEST_CASE("placements: every layer changes the output, and no two placements agree") {
  const auto ops = double_precision();
  std::map<std::string, std::vector<double>> seen;
  for (const TinyCase& tiny : placement_cases()) {
    INFO(tiny.name);
    const std::vector<double> logits = logits_without(*ops, tiny, -1);
    for (int64_t layer = 0; layer < tiny.config.layers; ++layer) {
      CHECK(relative_error(logits_without(*ops, tiny, layer), logits) > 1e-3);
    }
    for (const auto& [name, others] : seen) {
      INFO(name);
      if (others.size() == logits.size()) CHECK(relative_error(others, logits) > 1e-4);
    }
    seen[tiny.name] = logits;
  }
}

}  // namespace normlab
