// Joint: all that stands between two sublayers, forward and backward.
//
//   y = λ · N_inside(branch)                 without either, y = branch
//   x ← gate(N_after(skip · x + scale · y))  the residual stream; without all, x ← x + y
//   normed = N_before(x)                     the next sublayer's input; without N_before, x itself
//
// skip and scale are constants of the placement, λ and GPAS's gate are learnt.
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
  std::optional<size_t> inside;
  std::optional<size_t> after;
  std::optional<size_t> before;
  std::optional<size_t> values;  // N_before of attention's values; `before` is that of the others
};

struct JointFactors {
  double skip = 1;
  double branch = 1;
  int learnt = -1;  // λ, an index into the parameter list; −1: none
  int gate = -1;    // GPAS's
};

class Joint {
 public:
  Joint(const JointNorms& norms, const JointFactors& factors) : norms_(norms), factors_(factors) {}
  const JointNorms& norms() const { return norms_; }

  // Tensors of a joint. A model for inference gives the same ones to every second joint, one that
  // computes whole layers again to those within layers.
  struct Buffers {
    Tensor branch;    // (N,C) as the sublayer gives it, where backward needs it
    Tensor inside;    // (N,C) N_inside of it, where backward needs that too
    Tensor sum;       // (N,C) skip · x + scale · y
    Tensor ungated;   // (N,C) N_after of it; `sum` where there is none
    Tensor residual;  // (N,C) the stream; `ungated` where there is no gate
    Tensor normed;    // (N,C) the next input; `residual` where there is no norm before
    // (N,2), of norms that have some
    Tensor inside_statistics, after_statistics, before_statistics;
  };
  // The statistics are apart: they are read after a pass, whatever then has become of the others.
  void lay_out(Arena& arena, int64_t rows, const ModelConfig& config, DType working_type);
  void lay_out_statistics(Arena& arena, int64_t rows, const ModelConfig& config,
                          DType statistics_type);

  // The stream after this joint and the next sublayer's input, (rows, C).
  Tensor residual(int64_t rows) const { return first_rows(buffers_.residual, rows); }
  Tensor normed(int64_t rows) const { return first_rows(buffers_.normed, rows); }
  // Where what enters the first joint is written.
  Tensor sum(int64_t rows) const { return first_rows(buffers_.sum, rows); }
  // Where the sublayer before writes its branch: in `room` (N,C), unless it is kept.
  Tensor branch(Tensor room) const {
    return buffers_.branch ? first_rows(buffers_.branch, room.rows()) : room;
  }
  // Whether the gradient of the branch is another than that of the stream before it.
  bool branch_apart() const {
    return norms_.inside || factors_.learnt >= 0 || factors_.skip != 1 || factors_.branch != 1;
  }

  // From the stream before the branch (N,C) and the branch, which is in branch(room). x is empty
  // for the first joint, whose `sum` is already filled; then so is room.
  void forward(const PassContext& pass, const std::vector<NormSite>& sites, ConstTensor x,
               Tensor room, const JointSites& shown) const;
  // Only N_before, of a stream that is already in `residual`.
  void forward_before(const PassContext& pass, const std::vector<NormSite>& sites) const;
  // Whether attention's values have another input than its queries and keys.
  bool values_apart(const std::vector<NormSite>& sites) const;
  // That input, (N,C), after forward.
  void forward_values(const PassContext& pass, const std::vector<NormSite>& sites,
                      Tensor normed_values) const;
  // {mean, 1/std} of each row (N,2) of what goes into the norm before (after forward), after the
  // sum, or inside.
  Tensor before_statistics(int64_t rows) const {
    return first_rows(buffers_.before_statistics, rows);
  }
  Tensor after_statistics(int64_t rows) const {
    return first_rows(buffers_.after_statistics, rows);
  }
  Tensor inside_statistics(int64_t rows) const {
    return first_rows(buffers_.inside_statistics, rows);
  }
  // Of what went into a joint. Unless branch_apart(), x and branch were added, and the two share
  // memory.
  struct Gradients {
    Tensor x;       // (N,C) of the stream before
    Tensor branch;  // (N,C)
  };
  // d_stream comes in as the gradient of `residual` from further on (its content is ignored where
  // `last`) and is overwritten, as d_normed is. The gradient of `residual` is shown where forward
  // showed `residual`.
  // d_normed_values (N,C): the gradient of what forward_values gave; empty where it gave nothing.
  // d_branch (N,C): room for the branch's gradient where branch_apart().
  enum class Position { inner, last };
  struct Rooms {
    Tensor d_stream, d_normed, d_normed_values, d_branch;
  };
  Gradients backward(const PassContext& pass, const std::vector<NormSite>& sites,
                     const Rooms& rooms, Position position, const JointSites& shown) const;

 private:
  ConstTensor finish_branch(const PassContext& pass, const std::vector<NormSite>& sites,
                            Tensor room) const;
  void backward_before(const PassContext& pass, const std::vector<NormSite>& sites,
                       const Rooms& rooms, Position position) const;
  void backward_branch(const PassContext& pass, const std::vector<NormSite>& sites, Tensor d_branch,
                       ConstTensor d_sum) const;

  JointNorms norms_;
  JointFactors factors_;
  Buffers buffers_;
};

}  // namespace normlab
