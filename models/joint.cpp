#include "models/joint.h"

namespace normlab {

Joint::Buffers Joint::lay_out(Arena& arena, int64_t rows, int64_t width, DType working_type,
                              DType statistics_type) const {
  Buffers buffers;
  buffers.sum = buffers.residual = buffers.normed = arena.take(working_type, {rows, width});
  if (norms_.after) {
    buffers.residual = buffers.normed = arena.take(working_type, {rows, width});
    buffers.after_statistics = arena.take(statistics_type, {rows, 2});
  }
  if (norms_.before) {
    buffers.normed = arena.take(working_type, {rows, width});
    buffers.before_statistics = arena.take(statistics_type, {rows, 2});
  }
  return buffers;
}

void Joint::forward(const PassContext& pass, const std::vector<NormSite>& sites, ConstTensor x,
                    ConstTensor branch, const JointSites& shown) const {
  const int64_t rows = pass.rows();
  const bool summed = !x;  // the sum is there already
  if (summed) x = sum(rows);
  if (norms_.after) {
    const NormSite& site = sites[*norms_.after];
    const Tensor statistics = first_rows(buffers_.after_statistics, rows);
    pass.ops.residual_norm_forward(sum(rows), residual(rows), statistics, x, branch,
                                   site.norm(pass));
    pass.show(ProbeSite::norm_std, site.layer, statistics);
  } else if (norms_.before && pass.probe == nullptr) {
    // One sweep for the sum and the norm of what follows; the same bits as one after the other,
    // because the norm reads the rounded sum.
    pass.ops.residual_norm_forward(summed ? Tensor{} : sum(rows), normed(rows),
                                   first_rows(buffers_.before_statistics, rows), x, branch,
                                   sites[*norms_.before].norm(pass));
    return;
  } else if (!summed) {
    pass.ops.add(sum(rows), x, branch);
  }
  for (size_t i = 0; i < shown.residual.size(); ++i) {
    pass.show(shown.residual[i], shown.layers[i], residual(rows));
  }
  forward_before(pass, sites);
}

void Joint::forward_before(const PassContext& pass, const std::vector<NormSite>& sites) const {
  if (!norms_.before) return;
  const int64_t rows = pass.rows();
  const NormSite& site = sites[*norms_.before];
  const Tensor statistics = first_rows(buffers_.before_statistics, rows);
  pass.ops.residual_norm_forward({}, normed(rows), statistics, residual(rows), {}, site.norm(pass));
  pass.show(ProbeSite::norm_std, site.layer, statistics);
}

bool Joint::values_apart(const std::vector<NormSite>& sites) const {
  return norms_.values && sites[*norms_.values].state != sites[*norms_.before].state;
}

void Joint::forward_values(const PassContext& pass, const std::vector<NormSite>& sites,
                           Tensor normed_values) const {
  // The statistics are written again, as they were.
  const int64_t rows = pass.rows();
  pass.ops.residual_norm_forward({}, normed_values, before_statistics(rows), residual(rows), {},
                                 sites[*norms_.values].norm(pass));
}

Joint::Gradients Joint::backward(const PassContext& pass, const std::vector<NormSite>& sites,
                                 Tensor d_stream, Tensor d_normed, ConstTensor d_normed_values,
                                 Position position, const JointSites& shown) const {
  const int64_t rows = pass.rows();
  const ConstTensor d_residual = position == Position::last ? ConstTensor{} : ConstTensor{d_stream};
  if (norms_.before) {
    const NormSite& site = sites[*norms_.before];
    pass.ops.residual_norm_backward(d_stream, pass.gradient(site.gain), pass.gradient(site.bias),
                                    d_normed, d_residual, residual(rows),
                                    first_rows(buffers_.before_statistics, rows), site.norm(pass));
    if (d_normed_values) {
      pass.ops.residual_norm_backward(d_stream, pass.gradient(site.gain), pass.gradient(site.bias),
                                      d_normed_values, d_stream, residual(rows),
                                      before_statistics(rows), sites[*norms_.values].norm(pass));
    }
  } else if (d_residual) {
    pass.ops.add(d_stream, d_residual, d_normed);
  } else {
    pass.ops.copy(d_stream, d_normed);
  }
  for (size_t i = shown.residual.size(); i-- > 0;) {
    pass.show_gradient(shown.residual[i], shown.layers[i], d_stream);
  }
  if (norms_.after) {
    const NormSite& site = sites[*norms_.after];
    pass.ops.residual_norm_backward(d_stream, pass.gradient(site.gain), pass.gradient(site.bias),
                                    d_stream, {}, sum(rows),
                                    first_rows(buffers_.after_statistics, rows), site.norm(pass));
  }
  return {d_stream, d_stream};
}

}  // namespace normlab
