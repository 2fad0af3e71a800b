// The std of rows: their sum, and the auxiliary loss that holds them together.
#include <algorithm>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/special_rows.h"

namespace normlab {
namespace {

// Rows of statistics by sequence and token.
template <typename Scalar>
struct Stds {
  ConstTensor statistics;
  ConstTensor lengths;
  int64_t tokens;  // of a sequence, T

  Stds(ConstTensor rows, ConstTensor counts)
      : statistics(rows), lengths(counts), tokens(rows.rows() / counts.rows()) {
    check(counts.rows() * tokens == rows.rows(), "stds: statistics (B·T,2), lengths (B,1)");
  }
  int64_t length(int64_t sequence) const {
    return lengths.as<int32_t>()[sequence * lengths.row_stride];
  }
  const Scalar* row(int64_t sequence, int64_t token) const {
    return statistics.as<Scalar>() + (sequence * tokens + token) * statistics.row_stride;
  }
  double std(int64_t sequence, int64_t token) const {
    return 1 / static_cast<double>(row(sequence, token)[1]);
  }
};

// Of the sequences [first, last).
template <typename Scalar>
double target_of(const Stds<Scalar>& stds, ConstTensor tokens, const StdLoss& settings,
                 int64_t first, int64_t last) {
  if (settings.given_target > 0) return settings.given_target;
  double sum = 0;
  int64_t count = 0;
  for (int64_t sequence = first; sequence < last; ++sequence) {
    const int32_t* ids = tokens.as<int32_t>() + sequence * tokens.row_stride;
    for (int64_t token = 1; token < stds.length(sequence); ++token) {
      if (ids[token] == settings.end_of_text) continue;
      sum += stds.std(sequence, token);
      ++count;
    }
  }
  return count > 0 ? sum / static_cast<double>(count) : 1;
}

}  // namespace

template <typename Scalar>
void CpuOps<Scalar>::add_stds(Tensor sums, ConstTensor statistics, ConstTensor lengths,
                              const SpecialTokens& special) {
  const Stds<Scalar> stds(statistics, lengths);
  const SpecialRows is_special(special);
  double totals[2] = {};
  for (int64_t sequence = 0; sequence < lengths.rows(); ++sequence) {
    for (int64_t token = 0; token < stds.length(sequence); ++token) {
      const int64_t row = sequence * stds.tokens + token;
      totals[is_special(row) ? 1 : 0] += stds.std(sequence, token);
    }
  }
  sums.as<double>()[0] += totals[0];
  sums.as<double>()[1] += totals[1];
}

template <typename Scalar>
void CpuOps<Scalar>::add_std_loss(Tensor d_x, ConstTensor x, ConstTensor statistics,
                                  ConstTensor tokens, ConstTensor lengths,
                                  const StdLoss& settings) {
  const Stds<Scalar> stds(statistics, lengths);
  const int64_t sequences = lengths.rows();
  for (int64_t first = 0; first < sequences; first += settings.group) {
    const int64_t last = std::min(sequences, first + settings.group);
    const double target = target_of(stds, tokens, settings, first, last);
    double losses = 0;
    for (int64_t sequence = first; sequence < last; ++sequence) {
      for (int64_t token = 0; token < stds.length(sequence); ++token) {
        const double distance = stds.std(sequence, token) - target;
        losses += distance * distance;
      }
    }
    losses_.std_loss += state_.std_loss_scale * losses;
    parallel_for(threads_, last - first, [&](int64_t i, int) {
      const int64_t sequence = first + i;
      for (int64_t token = 0; token < stds.length(sequence); ++token) {
        const Scalar* found = stds.row(sequence, token);
        const double std = stds.std(sequence, token);
        const auto factor = static_cast<Scalar>(state_.std_loss_scale * 2 * (std - target) /
                                                (static_cast<double>(x.columns()) * std));
        const int64_t row = sequence * stds.tokens + token;
        const Scalar* in = x.as<Scalar>() + row * x.row_stride;
        Scalar* out = d_x.as<Scalar>() + row * d_x.row_stride;
#pragma omp simd
        for (int64_t c = 0; c < x.columns(); ++c) out[c] += factor * (in[c] - found[0]);
      }
    });
  }
}

template class CpuOps<float>;
template class CpuOps<double>;

}  // namespace normlab
