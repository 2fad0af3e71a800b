// Which joint holds which norm.
#include "models/norm_plan.h"

#include <cmath>
#include <map>

#include "catch.h"
#include "models/structure.h"
#include "tests/models/tiny.h"

namespace normlab {
namespace {

// "attention 0, mlp 0" for the norms after and before, "-" for none; "output 0 > …" for one inside.
std::string described(const std::optional<PlannedNorm>& norm) {
  if (!norm) return "-";
  switch (norm->role) {
    case NormRole::embedding:
      return "embedding " + std::to_string(norm->layer);
    case NormRole::attention:
      return "attention " + std::to_string(norm->layer);
    case NormRole::attention_qk:
      return "qk " + std::to_string(norm->layer);
    case NormRole::attention_v:
      return "v " + std::to_string(norm->layer);
    case NormRole::attention_output:
    case NormRole::mlp_output:
      return "output " + std::to_string(norm->layer);
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
    joints.push_back((joint.inside ? described(joint.inside) + " > " : "") +
                     described(joint.after) + ", " + described(joint.before));
  }
  return joints;
}

// How the layers of a placement are built, a letter each.
std::string blocks(NormPlacement placement, int64_t layers, int64_t post_layers = 1) {
  std::string letters;
  for (int64_t layer = 0; layer < layers; ++layer) {
    switch (block_of({.placement = placement, .post_layers = post_layers}, layer)) {
      case Block::pre:
        letters += 'p';
        break;
      case Block::post:
        letters += 'o';
        break;
      case Block::sandwich:
        letters += 's';
        break;
      case Block::none:
        letters += '-';
        break;
    }
  }
  return letters;
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

TEST_CASE("norm_plan: sandwich has a norm of each branch, peri one of the embedding too") {
  CHECK(described(NormPlacement::sandwich, 1) ==
        std::vector<std::string>{"-, qk 0", "output 0 > -, mlp 0", "output 0 > -, final -1"});
  CHECK(described(NormPlacement::peri, 1) == std::vector<std::string>{"embedding -1, qk 0",
                                                                      "output 0 > -, mlp 0",
                                                                      "output 0 > -, final -1"});
}

TEST_CASE("norm_plan: where a post layer meets a pre layer, a norm stands after and one before") {
  CHECK(described(NormPlacement::mix, 2) == std::vector<std::string>{"-, -", "attention 0, -",
                                                                     "mlp 0, qk 1", "-, mlp 1",
                                                                     "-, final -1"});
}

TEST_CASE("norm_plan: the alternating orders are those of LayerNorm-Scaling's code") {
  CHECK(blocks(NormPlacement::mix, 5, 3) == "ooopp");
  CHECK(blocks(NormPlacement::pre_post, 9) == "pppppppoo");
  CHECK(blocks(NormPlacement::pre_sandwich, 9) == "pppppppss");
  CHECK(blocks(NormPlacement::post_pre_post_pre, 9) == "ooopooopo");
  CHECK(blocks(NormPlacement::pre_post_pre_post, 9) == "pppopppop");
}

TEST_CASE("norm_plan: DeepNorm's skip factor follows the layers, the reference's does not") {
  for (const int64_t layers : {3, 12, 24}) {
    const std::vector<PlannedJoint> right =
        norm_plan({.placement = NormPlacement::deepnorm}, layers);
    const std::vector<PlannedJoint> reference =
        norm_plan({.placement = NormPlacement::deepnorm_reference}, layers);
    CHECK(right.front().skip_scale == 1);
    for (size_t i = 1; i < right.size(); ++i) {
      CHECK(std::pow(right[i].skip_scale, 4) == Approx(2.0 * static_cast<double>(layers)));
      CHECK(reference[i].skip_scale == Approx(2.8284271247461903));
      CHECK(right[i].branch_scale == 1);
    }
  }
}

TEST_CASE("norm_plan: LayerNorm Scaling divides by the root of the layer, counted from 1") {
  const auto scales = [](LnsPosition position, LnsSublayers sublayers) {
    return norm_plan(
        {.placement = NormPlacement::lns, .lns_position = position, .lns_sublayers = sublayers}, 4);
  };
  const double root = 1 / std::sqrt(3.0);  // of layer 2
  const auto norm = scales(LnsPosition::after_norm, LnsSublayers::both);
  CHECK(norm[0].before->scale == 1);
  CHECK(norm[4].before->scale == root);
  CHECK(norm[5].before->scale == root);
  CHECK(norm[8].before->scale == 1);  // the final norm
  const auto input = scales(LnsPosition::before_norm, LnsSublayers::both);
  CHECK(input[4].before->input_scale == root);
  CHECK(input[4].before->scale == 1);
  const auto branch = scales(LnsPosition::after_sublayer, LnsSublayers::both);
  CHECK(branch[5].branch_scale == root);
  CHECK(branch[6].branch_scale == root);
  CHECK(branch[6].skip_scale == 1);
  const auto residual = scales(LnsPosition::after_residual, LnsSublayers::both);
  CHECK(residual[5].branch_scale == root);
  CHECK(residual[5].skip_scale == root);
  const auto attention = scales(LnsPosition::after_norm, LnsSublayers::attention);
  CHECK(attention[4].before->scale == root);
  CHECK(attention[5].before->scale == 1);
  const auto mlp = scales(LnsPosition::after_norm, LnsSublayers::mlp);
  CHECK(mlp[4].before->scale == 1);
  CHECK(mlp[5].before->scale == root);
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
