// NormSite: one norm in one place of a model.
#pragma once

#include <cstdint>

#include "models/pass.h"

namespace normlab {

// What becomes of a norm's 1/std: gate/std + (1 − gate)/σ. A live norm (gate 1) computes it from
// each row, a frozen one (gate 0) has it given, a tapering one lies between. Removal is a state of
// the site, not another code path.
struct NormState {
  double gate = 1;
  double sigma = 0;  // σ, without meaning where gate is 1
  // Tokens that have a σ of their own: the first of a sequence; those with an id (−1: none).
  double special_sigma = 0;
  bool special_first = false;
  int32_t special_id = -1;

  bool live() const { return gate == 1; }
  bool has_special() const { return special_first || special_id >= 0; }
  bool same_special(const NormState& other) const {
    return special_first == other.special_first && special_id == other.special_id;
  }
  // Whether two norms with the same gain and bias give the same.
  bool operator==(const NormState& other) const {
    if (gate != other.gate) return false;
    if (live()) return true;
    const bool same = sigma == other.sigma && same_special(other);
    return same && (!has_special() || special_sigma == other.special_sigma);
  }
};

// The norm before attention is two, which share gain and bias: one for queries and keys, one for
// values. A norm after the sum (`attention`) is one, and so are those of branches (`…_output`) and
// of the embedding.
enum class NormRole {
  embedding,
  attention,
  attention_qk,
  attention_v,
  attention_output,
  mlp,
  mlp_output,
  final
};

struct NormSite {
  NormRole role = NormRole::attention;
  int64_t layer = 0;  // counts from 0; −1 for the embedding's norm and the final one
  int gain = -1;      // indices into the parameter list
  int bias = -1;      // −1: none (rmsnorm)
  int slope = -1;     // dyt, derf
  int shift = -1;     // derf
  double scale = 1;   // a constant factor of the output
  // The same of the input x. Its statistics are those of x alone: N(c·x) = (x − mean)/√(var +
  // ε/c²).
  double input_scale = 1;
  NormState state;
  Tensor on_device;  // (1,3) {gate, 1/σ, 1/σ of special tokens} in statistics_type()

  SpecialTokens special(const PassContext& pass) const {
    if (!state.has_special()) return {};
    return {pass.ids, state.special_first && pass.first_position == 0, state.special_id};
  }
  // What the verbs of Ops need to know.
  Norm norm(const PassContext& pass) const {
    return {pass.config.norm.kind,
            pass.value(gain),
            pass.value(bias),
            pass.config.norm.epsilon / (input_scale * input_scale),
            scale,
            state.live() ? ConstTensor{} : ConstTensor{on_device},
            state.live() ? SpecialTokens{} : special(pass)};
  }
  ElementwiseNorm elementwise(const PassContext& pass) const;

  // sum (N,C) = residual + branch (which may be empty), then normed = N(sum), with its statistics
  // (N,2); as residual_norm_forward of Ops. An elementwise norm has no statistics.
  void forward(const PassContext& pass, Tensor sum, Tensor normed, Tensor statistics,
               ConstTensor residual, ConstTensor branch) const;
  // d_sum = N'(d_normed) + d_residual (which may be empty); accumulates the parameters' gradients.
  void backward(const PassContext& pass, Tensor d_sum, ConstTensor d_normed, ConstTensor d_residual,
                ConstTensor sum, ConstTensor statistics) const;
};

}  // namespace normlab
