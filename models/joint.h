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

class Joint {
 public:
  // `after`, `before`: indices into the model's sites, where the plan wants them.
  Joint(std::optional<size_t> after, std::optional<size_t> before)
      : after_(after), before_(before) {}

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
  // Of what went into a joint; x and branch were added, so the two share memory.
  struct Gradients {
    Tensor x;       // (N,C) of the stream before
    Tensor branch;  // (N,C)
  };
  // d_stream comes in as the gradient of `residual` from further on (its content is ignored where
  // `last`) and is overwritten, as d_normed is. The gradient of `residual` is shown where forward
  // showed `residual`.
  enum class Position { inner, last };
  Gradients backward(const PassContext& pass, const std::vector<NormSite>& sites, Tensor d_stream,
                     Tensor d_normed, Position position, const JointSites& shown) const;

 private:
  std::optional<size_t> after_, before_;
  Buffers buffers_;
};

}  // namespace normlab
