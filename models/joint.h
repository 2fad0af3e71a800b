// Joint: all that stands between two sublayers, forward and backward.
//
//   x ← N_after(x + branch)      the residual stream; without N_after, x ← x + branch
//   normed = N_before(x)         the next sublayer's input; without N_before, x itself
#pragma once

#include <optional>
#include <vector>

#include "kernels/arena.h"
#include "models/norm_plan.h"
#include "models/norm_site.h"

namespace normlab {

// Where the residual stream is shown to a probe: a joint is the end of one layer and the
// beginning of the next.
struct JointSites {
  std::vector<ProbeSite> residual;
  std::vector<int64_t> layers;  // one for each
};

// Indices into the model's sites, where the plan wants them.
struct JointNorms {
  std::optional<size_t> after;
  std::optional<size_t> before;
  std::optional<size_t> values;  // N_before of attention's values; `before` is that of the others
};

class Joint {
 public:
  explicit Joint(const JointNorms& norms) : norms_(norms) {}
  const JointNorms& norms() const { return norms_; }

  // Tensors of a joint; a model for inference gives the same ones to every second joint.
  struct Buffers {
    Tensor sum;       // (N,C) x + branch
    Tensor residual;  // (N,C) the stream; `sum` where there is no norm after
    Tensor normed;    // (N,C) the next input; `residual` where there is no norm before
    Tensor after_statistics, before_statistics;  // (N,2)
  };
  Buffers lay_out(Arena& arena, int64_t rows, int64_t width, DType working_type,
                  DType statistics_type) const;
  void use(const Buffers& buffers) { buffers_ = buffers; }

  // The stream after this joint and the next sublayer's input, (rows, C).
  Tensor residual(int64_t rows) const { return first_rows(buffers_.residual, rows); }
  Tensor normed(int64_t rows) const { return first_rows(buffers_.normed, rows); }
  // Where what enters the first joint is written.
  Tensor sum(int64_t rows) const { return first_rows(buffers_.sum, rows); }

  // From the stream before the branch (N,C) and the branch (N,C). x may be empty for the first
  // joint, whose `sum` is already filled; then so is branch.
  void forward(const PassContext& pass, const std::vector<NormSite>& sites, ConstTensor x,
               ConstTensor branch, const JointSites& shown) const;
  // Only N_before, of a stream that is already in `residual`.
  void forward_before(const PassContext& pass, const std::vector<NormSite>& sites) const;
  // Whether attention's values have another input than its queries and keys.
  bool values_apart(const std::vector<NormSite>& sites) const;
  // That input, (N,C), after forward.
  void forward_values(const PassContext& pass, const std::vector<NormSite>& sites,
                      Tensor normed_values) const;
  // {mean, 1/std} of each row (N,2) of what goes into the norm before (after forward), or after.
  Tensor before_statistics(int64_t rows) const {
    return first_rows(buffers_.before_statistics, rows);
  }
  Tensor after_statistics(int64_t rows) const {
    return first_rows(buffers_.after_statistics, rows);
  }
  // Of what went into a joint; x and branch were added, so the two share memory.
  struct Gradients {
    Tensor x;       // (N,C) of the stream before
    Tensor branch;  // (N,C)
  };
  // d_stream comes in as the gradient of `residual` from further on (its content is ignored where
  // `last`) and is overwritten, as d_normed is. The gradient of `residual` is shown where forward
  // showed `residual`.
  // d_normed_values (N,C): the gradient of what forward_values gave; empty where it gave nothing.
  enum class Position { inner, last };
  Gradients backward(const PassContext& pass, const std::vector<NormSite>& sites, Tensor d_stream,
                     Tensor d_normed, ConstTensor d_normed_values, Position position,
                     const JointSites& shown) const;

 private:
  JointNorms norms_;
  Buffers buffers_;
};

}  // namespace normlab
