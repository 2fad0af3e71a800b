#include "models/norm_site.h"

namespace normlab {

ElementwiseNorm NormSite::elementwise(const PassContext& pass) const {
  return {pass.config.norm.kind, pass.value(gain),  pass.value(bias),
          pass.value(slope),     pass.value(shift), scale};
}

void NormSite::forward(const PassContext& pass, Tensor sum, Tensor normed, Tensor statistics,
                       ConstTensor residual, ConstTensor branch) const {
  if (!is_elementwise(pass.config.norm.kind)) {
    pass.ops.residual_norm_forward(sum, normed, statistics, residual, branch, norm(pass));
    return;
  }
  if (branch) pass.ops.add(sum, residual, branch);
  pass.ops.elementwise_norm_forward(normed, branch ? ConstTensor{sum} : residual,
                                    elementwise(pass));
}

void NormSite::backward(const PassContext& pass, Tensor d_sum, ConstTensor d_normed,
                        ConstTensor d_residual, ConstTensor sum, ConstTensor statistics) const {
  if (!is_elementwise(pass.config.norm.kind)) {
    pass.ops.residual_norm_backward(d_sum, pass.gradient(gain), pass.gradient(bias), d_normed,
                                    d_residual, sum, statistics, norm(pass));
    return;
  }
  pass.ops.elementwise_norm_backward(
      d_sum, {pass.gradient(gain), pass.gradient(bias), pass.gradient(slope), pass.gradient(shift)},
      d_normed, d_residual, sum, elementwise(pass));
}

}  // namespace normlab
