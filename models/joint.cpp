#include "models/joint.h"

namespace normlab {

void Joint::lay_out(Arena& arena, int64_t rows, const ModelConfig& config, DType working_type) {
  const auto take = [&] { return arena.take(working_type, {rows, config.width}); };
  if (norms_.inside || factors_.learnt >= 0) buffers_.branch = take();
  if (norms_.inside && factors_.learnt >= 0) buffers_.inside = take();
  buffers_.sum = take();
  buffers_.ungated = norms_.after ? take() : buffers_.sum;
  buffers_.residual = factors_.gate < 0 ? buffers_.ungated : take();
  buffers_.normed = norms_.before ? take() : buffers_.residual;
}

void Joint::lay_out_statistics(Arena& arena, int64_t rows, const ModelConfig& config,
                               DType statistics_type) {
  if (is_elementwise(config.norm.kind)) return;
  const auto take = [&] { return arena.take(statistics_type, {rows, 2}); };
  if (norms_.inside) buffers_.inside_statistics = take();
  if (norms_.after) buffers_.after_statistics = take();
  if (norms_.before) buffers_.before_statistics = take();
}

// y, in the branch's own memory or in room.
ConstTensor Joint::finish_branch(const PassContext& pass, const std::vector<NormSite>& sites,
                                 Tensor room) const {
  const int64_t rows = pass.rows();
  Tensor y = branch(room);
  if (norms_.inside) {
    const Tensor normed = factors_.learnt < 0 ? room : first_rows(buffers_.inside, rows);
    sites[*norms_.inside].forward(pass, {}, normed, inside_statistics(rows), y, {});
    y = normed;
  }
  if (factors_.learnt >= 0) {
    pass.ops.scale_forward(room, y, pass.value(factors_.learnt));
    y = room;
  }
  return y;
}

void Joint::forward(const PassContext& pass, const std::vector<NormSite>& sites, ConstTensor x,
                    Tensor room, const JointSites& shown) const {
  const int64_t rows = pass.rows();
  ConstTensor added = x ? finish_branch(pass, sites, room) : ConstTensor{};
  if (x && (factors_.skip != 1 || factors_.branch != 1)) {
    pass.ops.scaled_sum(sum(rows), x, added, {factors_.skip, factors_.branch});
    x = added = {};
  }
  const bool summed = !x;  // the sum is there already
  if (summed) x = sum(rows);
  const Tensor ungated = first_rows(buffers_.ungated, rows);
  if (norms_.after) {
    const NormSite& site = sites[*norms_.after];
    const Tensor statistics = after_statistics(rows);
    site.forward(pass, summed ? Tensor{} : sum(rows), ungated, statistics, x, added);
    if (statistics) pass.show(ProbeSite::norm_std, site.layer, statistics);
  } else if (norms_.before && factors_.gate < 0 && pass.probe == nullptr) {
    // One sweep for the sum and the norm of what follows; the same bits as one after the other,
    // because the norm reads the rounded sum.
    sites[*norms_.before].forward(pass, summed ? Tensor{} : sum(rows), normed(rows),
                                  before_statistics(rows), x, added);
    return;
  } else if (!summed) {
    pass.ops.add(sum(rows), x, added);
  }
  if (factors_.gate >= 0) {
    pass.ops.gpas_forward(residual(rows), ungated, pass.value(factors_.gate));
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
  const Tensor statistics = before_statistics(rows);
  site.forward(pass, {}, normed(rows), statistics, residual(rows), {});
  if (statistics) pass.show(ProbeSite::norm_std, site.layer, statistics);
}

bool Joint::values_apart(const std::vector<NormSite>& sites) const {
  return norms_.values && sites[*norms_.values].state != sites[*norms_.before].state;
}

void Joint::forward_values(const PassContext& pass, const std::vector<NormSite>& sites,
                           Tensor normed_values) const {
  // The statistics are written again, as they were.
  const int64_t rows = pass.rows();
  sites[*norms_.values].forward(pass, {}, normed_values, before_statistics(rows), residual(rows),
                                {});
}

// d_stream = the gradient of `residual`, from the next sublayer's input and from further on.
void Joint::backward_before(const PassContext& pass, const std::vector<NormSite>& sites,
                            const Rooms& rooms, Position position) const {
  const int64_t rows = pass.rows();
  const Tensor d_stream = rooms.d_stream;
  const ConstTensor d_residual = position == Position::last ? ConstTensor{} : ConstTensor{d_stream};
  if (norms_.before) {
    sites[*norms_.before].backward(pass, d_stream, rooms.d_normed, d_residual, residual(rows),
                                   before_statistics(rows));
    if (rooms.d_normed_values) {
      sites[*norms_.values].backward(pass, d_stream, rooms.d_normed_values, d_stream,
                                     residual(rows), before_statistics(rows));
    }
  } else if (d_residual) {
    pass.ops.add(d_stream, d_residual, rooms.d_normed);
  } else {
    pass.ops.copy(d_stream, rooms.d_normed);
  }
}

// d_branch (N,C) from the gradient of `sum`.
void Joint::backward_branch(const PassContext& pass, const std::vector<NormSite>& sites,
                            Tensor d_branch, ConstTensor d_sum) const {
  const int64_t rows = pass.rows();
  const Tensor branch = first_rows(buffers_.branch, rows);
  pass.ops.scaled_sum(d_branch, d_sum, {}, {factors_.branch, 0});
  if (factors_.learnt >= 0) {
    pass.ops.scale_backward(d_branch, pass.gradient(factors_.learnt), d_branch,
                            norms_.inside ? first_rows(buffers_.inside, rows) : branch,
                            pass.value(factors_.learnt));
  }
  if (norms_.inside) {
    sites[*norms_.inside].backward(pass, d_branch, d_branch, {}, branch, inside_statistics(rows));
  }
}

Joint::Gradients Joint::backward(const PassContext& pass, const std::vector<NormSite>& sites,
                                 const Rooms& rooms, Position position,
                                 const JointSites& shown) const {
  const int64_t rows = pass.rows();
  const Tensor d_stream = rooms.d_stream;
  backward_before(pass, sites, rooms, position);
  for (size_t i = shown.residual.size(); i-- > 0;) {
    pass.show_gradient(shown.residual[i], shown.layers[i], d_stream);
  }
  if (factors_.gate >= 0) {
    pass.ops.gpas_backward(pass.gradient(factors_.gate), d_stream,
                           first_rows(buffers_.ungated, rows), pass.value(factors_.gate));
  }
  if (norms_.after) {
    sites[*norms_.after].backward(pass, d_stream, d_stream, {}, sum(rows), after_statistics(rows));
  }
  if (!branch_apart()) return {d_stream, d_stream};
  backward_branch(pass, sites, rooms.d_branch, d_stream);
  if (factors_.skip != 1) pass.ops.scaled_sum(d_stream, d_stream, {}, {factors_.skip, 0});
  return {d_stream, rooms.d_branch};
}

}  // namespace normlab
