#include "kernels/bf16_gradients_ops.h"

#include <array>

namespace normlab {
namespace {

constexpr int64_t kLine = 16;  // floats; zeros begin on cache lines

int64_t floats_of(ConstTensor gradient) {
  return (gradient.elements() + kLine - 1) / kLine * kLine;
}

}  // namespace

Bf16GradientsOps::Bf16GradientsOps(std::unique_ptr<Ops> rounding, AddRounded add_rounded)
    : ForwardingOps(*rounding), owned_(std::move(rounding)), add_rounded_(std::move(add_rounded)) {}

template <typename Verb>
void Bf16GradientsOps::accumulate(std::initializer_list<Tensor> gradients, const Verb& verb) {
  constexpr size_t kMost = 4;
  check(gradients.size() <= kMost, "at most four gradients");
  int64_t floats = 0;
  for (const Tensor& gradient : gradients) {
    if (gradient) floats += floats_of(gradient);
  }
  if (floats * size_of(DType::f32) > room_.bytes()) {
    room_ = {};  // first: never two at a time
    room_ = ops().allocate(floats * size_of(DType::f32));
  }
  std::array<Tensor, kMost> added{};
  std::byte* free = room_.data();
  size_t count = 0;
  for (const Tensor& gradient : gradients) {
    Tensor& part = added[count++];
    if (!gradient) continue;
    part = Tensor(free, DType::f32, Shape{gradient.rows(), gradient.columns()});
    free += floats_of(gradient) * size_of(DType::f32);
    ops().zero(part);
  }
  verb(added);
  count = 0;
  for (const Tensor& gradient : gradients) {
    const Tensor part = added[count++];
    if (!gradient) continue;
    add_rounded_(gradient, part);
  }
}

void Bf16GradientsOps::embedding_backward(Tensor d_token_table, Tensor d_position_table,
                                          ConstTensor d_x, ConstTensor tokens) {
  accumulate({d_token_table, d_position_table},
             [&](const auto& added) { ops().embedding_backward(added[0], added[1], d_x, tokens); });
}

void Bf16GradientsOps::residual_norm_backward(Tensor d_sum, Tensor d_gain, Tensor d_bias,
                                              ConstTensor d_normed, ConstTensor d_residual,
                                              ConstTensor sum, ConstTensor statistics,
                                              const Norm& norm) {
  accumulate({d_gain, d_bias}, [&](const auto& added) {
    ops().residual_norm_backward(d_sum, added[0], added[1], d_normed, d_residual, sum, statistics,
                                 norm);
  });
}

void Bf16GradientsOps::elementwise_norm_backward(Tensor d_x,
                                                 const ElementwiseNormGradients& d_parameters,
                                                 ConstTensor d_y, ConstTensor d_residual,
                                                 ConstTensor x, const ElementwiseNorm& norm) {
  accumulate({d_parameters.gain, d_parameters.bias, d_parameters.slope, d_parameters.shift},
             [&](const auto& added) {
               ops().elementwise_norm_backward(d_x, {added[0], added[1], added[2], added[3]}, d_y,
                                               d_residual, x, norm);
             });
}

void Bf16GradientsOps::scale_backward(Tensor d_x, Tensor d_factor, ConstTensor d_y, ConstTensor x,
                                      ConstTensor factor) {
  accumulate({d_factor},
             [&](const auto& added) { ops().scale_backward(d_x, added[0], d_y, x, factor); });
}

void Bf16GradientsOps::gpas_backward(Tensor d_gate, ConstTensor d_y, ConstTensor x,
                                     ConstTensor gate) {
  accumulate({d_gate}, [&](const auto& added) { ops().gpas_backward(added[0], d_y, x, gate); });
}

void Bf16GradientsOps::linear_backward_weight(Tensor d_weight, Tensor d_bias, ConstTensor d_y,
                                              ConstTensor x) {
  accumulate({d_weight, d_bias},
             [&](const auto& added) { ops().linear_backward_weight(added[0], added[1], d_y, x); });
}

}  // namespace normlab
