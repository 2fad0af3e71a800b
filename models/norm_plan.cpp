#include "models/norm_plan.h"

#include <cmath>

namespace normlab {
namespace {

// LayerNorm-Scaling's code, modeling_llama.py: layers before which pre_post and pre_sandwich
// change, and every how many layers the alternating orders do.
constexpr int64_t kFirstBlocks = 7;
constexpr int64_t kBlockPeriod = 4;

bool is_each_fourth(int64_t layer) { return (layer + 1) % kBlockPeriod == 0; }

// α of x ← N(α·x + f(x)).
double skip_scale(NormPlacement placement, int64_t layers) {
  if (placement == NormPlacement::deepnorm)
    return std::pow(2.0 * static_cast<double>(layers), 0.25);
  if (placement == NormPlacement::deepnorm_reference) return std::pow(64.0, 0.25);
  return 1;
}

// Roles of one of the two sublayers' norms.
struct SublayerRoles {
  NormRole before, after, inside;
};
constexpr SublayerRoles kAttentionRoles{NormRole::attention_qk, NormRole::attention,
                                        NormRole::attention_output};
constexpr SublayerRoles kMlpRoles{NormRole::mlp, NormRole::mlp, NormRole::mlp_output};

// The norms of one sublayer, in the joints around it.
void place_norms(PlannedJoint& entry, PlannedJoint& exit, Block block, const SublayerRoles& roles,
                 int64_t layer) {
  switch (block) {
    case Block::sandwich:
      exit.inside = PlannedNorm{roles.inside, layer};
      [[fallthrough]];
    case Block::pre:
      entry.before = PlannedNorm{roles.before, layer};
      return;
    case Block::post:
      exit.after = PlannedNorm{roles.after, layer};
      return;
    case Block::none:
      return;
  }
}

// LayerNorm Scaling's factor, in the joints around a sublayer of a pre block.
void place_factor(PlannedJoint& entry, PlannedJoint& exit, LnsPosition position, int64_t layer) {
  const double factor = 1 / std::sqrt(static_cast<double>(layer + 1));
  switch (position) {
    case LnsPosition::after_norm:
      entry.before->scale = factor;
      return;
    case LnsPosition::before_norm:
      entry.before->input_scale = factor;
      return;
    case LnsPosition::after_sublayer:
      exit.branch_scale = factor;
      return;
    case LnsPosition::after_residual:
      exit.skip_scale = exit.branch_scale = factor;
      return;
  }
}

}  // namespace

Block block_of(const NormConfig& config, int64_t layer) {
  switch (config.placement) {
    case NormPlacement::pre:
    case NormPlacement::lns:
      return Block::pre;
    case NormPlacement::post:
    case NormPlacement::deepnorm:
    case NormPlacement::deepnorm_reference:
      return Block::post;
    case NormPlacement::mix:
      return layer < config.post_layers ? Block::post : Block::pre;
    case NormPlacement::sandwich:
    case NormPlacement::peri:
      return Block::sandwich;
    case NormPlacement::pre_post:
      return layer < kFirstBlocks ? Block::pre : Block::post;
    case NormPlacement::pre_sandwich:
      return layer < kFirstBlocks ? Block::pre : Block::sandwich;
    case NormPlacement::post_pre_post_pre:
      return is_each_fourth(layer) ? Block::pre : Block::post;
    case NormPlacement::pre_post_pre_post:
      return is_each_fourth(layer) ? Block::post : Block::pre;
    case NormPlacement::none:
      return Block::none;
  }
  throw Error("unknown placement of norms");
}

std::vector<PlannedJoint> norm_plan(const NormConfig& config, int64_t layers) {
  std::vector<PlannedJoint> joints(static_cast<size_t>(2 * layers + 1));
  const bool lns = config.placement == NormPlacement::lns;
  for (int64_t layer = 0; layer < layers; ++layer) {
    const Block block = block_of(config, layer);
    for (const bool attention : {true, false}) {
      const auto entry = static_cast<size_t>(2 * layer + (attention ? 0 : 1));
      place_norms(joints[entry], joints[entry + 1], block, attention ? kAttentionRoles : kMlpRoles,
                  layer);
      joints[entry + 1].skip_scale = skip_scale(config.placement, layers);
      const LnsSublayers only = attention ? LnsSublayers::attention : LnsSublayers::mlp;
      if (lns && (config.lns_sublayers == LnsSublayers::both || config.lns_sublayers == only)) {
        place_factor(joints[entry], joints[entry + 1], config.lns_position, layer);
      }
    }
  }
  if (config.placement == NormPlacement::peri) {
    joints.front().after = PlannedNorm{NormRole::embedding, -1};
  }
  if (config.placement != NormPlacement::none) {
    joints.back().before = PlannedNorm{NormRole::final, -1};
  }
  return joints;
}

}  // namespace normlab
