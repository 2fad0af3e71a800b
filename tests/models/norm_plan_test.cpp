// Which joint holds which norm.
#include "models/norm_plan.h"

#include <map>

#include "catch.h"
#include "models/structure.h"
#include "tests/models/tiny.h"

namespace normlab {
namespace {

// "attention 0, mlp 0" for the norms after and before, "-" for none.
std::string described(const std::optional<PlannedNorm>& norm) {
  if (!norm) return "-";
  switch (norm->role) {
    case NormRole::attention:
      return "attention " + std::to_string(norm->layer);
    case NormRole::attention_qk:
      return "qk " + std::to_string(norm->layer);
    case NormRole::attention_v:
      return "v " + std::to_string(norm->layer);
    case NormRole::mlp:
      return "mlp " + std::to_string(norm->layer);
    case NormRole::final:
      return "final " + std::to_string(norm->layer);
  }
  return {};
}

std::vector<std::string> described(NormPlacement placement, int64_t layers) {
  std::vector<std::string> joints;
  for (const PlannedJoint& joint : norm_plan({.placement = placement}, layers)) {
    joints.push_back(described(joint.after) + ", " + described(joint.before));
  }
  return joints;
}

}  // namespace

TEST_CASE("norm_plan: pre puts each norm before its sublayer and the final norm before the head") {
  CHECK(described(NormPlacement::pre, 2) ==
        std::vector<std::string>{"-, qk 0", "-, mlp 0", "-, qk 1", "-, mlp 1", "-, final -1"});
}

TEST_CASE("norm_plan: post puts each norm after its sublayer's sum, and keeps the final norm") {
  CHECK(described(NormPlacement::post, 2) == std::vector<std::string>{"-, -", "attention 0, -",
                                                                      "mlp 0, -", "attention 1, -",
                                                                      "mlp 1, final -1"});
}

TEST_CASE("norm_plan: none has the joints and no norm") {
  CHECK(described(NormPlacement::none, 2) == std::vector<std::string>(5, "-, -"));
}

TEST_CASE("norm_plan: every norm appears exactly once, unscaled") {
  for (const NormPlacement placement : {NormPlacement::pre, NormPlacement::post}) {
    for (const int64_t layers : {1, 3, 12, 48}) {
      std::map<std::string, int> times;
      const std::vector<PlannedJoint> plan = norm_plan({.placement = placement}, layers);
      REQUIRE(plan.size() == static_cast<size_t>(2 * layers + 1));
      for (const PlannedJoint& joint : plan) {
        for (const auto& norm : {joint.after, joint.before}) {
          if (!norm) continue;
          ++times[described(norm)];
          CHECK(norm->scale == 1);
        }
      }
      CHECK(times.size() == static_cast<size_t>(2 * layers + 1));
      for (const auto& [norm, count] : times) {
        INFO(norm);
        CHECK(count == 1);
      }
    }
  }
}

TEST_CASE("norm_plan: kind and epsilon move no norm, and equal arguments give equal plans") {
  for (const NormPlacement placement : {NormPlacement::pre, NormPlacement::post}) {
    const auto one = norm_plan({NormKind::layernorm, placement, 1e-5}, 3);
    const auto other = norm_plan({NormKind::rmsnorm, placement, 1e-6}, 3);
    for (size_t i = 0; i < one.size(); ++i) {
      CHECK(described(one[i].after) == described(other[i].after));
      CHECK(described(one[i].before) == described(other[i].before));
    }
  }
}

TEST_CASE("make_structure: each norm site has the gain and bias of its own role and layer") {
  for (const NormPlacement placement : {NormPlacement::pre, NormPlacement::post}) {
    ModelConfig config = tiny_gpt2();
    config.norm.placement = placement;
    const ModelStructure structure = make_structure(config);
    // Before attention stand two.
    REQUIRE(structure.sites.size() == (placement == NormPlacement::pre ? 10 : 7));
    for (const NormSite& site : structure.sites) {
      const std::string layer = "layers." + std::to_string(site.layer) + ".";
      const std::string prefix = site.role == NormRole::final ? "final.norm"
                                 : site.role == NormRole::mlp ? layer + "mlp.norm"
                                                              : layer + "attention.norm";
      CHECK(structure.parameters[static_cast<size_t>(site.gain)].name == prefix + ".gain");
      CHECK(structure.parameters[static_cast<size_t>(site.bias)].name == prefix + ".bias");
      CHECK(site.state.live());
    }
  }
}

}  // namespace normlab
