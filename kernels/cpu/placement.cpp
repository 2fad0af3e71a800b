// What placements of norms ask for beside norms: sums with factors, learnt factors, gates.
#include "kernels/cpu/cpu_ops.h"
#include "kernels/formula.h"

namespace normlab {
namespace {

constexpr int64_t kGrainRows = 8;
constexpr int64_t kBlockRows = 64;  // of one partial sum

// body(row) for all rows, by several threads.
template <typename Body>
void for_each_row(int threads, int64_t rows, const Body& body) {
  parallel_ranges(threads, rows, kGrainRows, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) body(row);
  });
}

// Σ over rows of a number of each, in an order that does not depend on threads.
template <typename Scalar, typename Term>
Scalar sum_of_rows(int threads, int64_t rows, std::vector<Scalar>& partials, const Term& term) {
  const int64_t blocks = (rows + kBlockRows - 1) / kBlockRows;
  partials.assign(static_cast<size_t>(blocks), Scalar(0));
  parallel_ranges(threads, rows, kBlockRows, [&](int64_t first, int64_t last, int) {
    Scalar sum = 0;
    for (int64_t row = first; row < last; ++row) sum += term(row);
    partials[static_cast<size_t>(first / kBlockRows)] = sum;
  });
  Scalar total = 0;
  for (const Scalar partial : partials) total += partial;
  return total;
}

template <typename Scalar>
Scalar product_of_rows(const Scalar* a, const Scalar* b, int64_t width) {
  Scalar sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < width; ++c) sum += a[c] * b[c];
  return sum;
}

}  // namespace

template <typename Scalar>
void CpuOps<Scalar>::scaled_sum(Tensor y, ConstTensor a, ConstTensor b, const SumFactors& factors) {
  const auto of_a = static_cast<Scalar>(factors.a);
  const auto of_b = static_cast<Scalar>(factors.b);
  const int64_t width = y.columns();
  for_each_row(threads_, y.rows(), [&](int64_t row) {
    Scalar* out = y.as<Scalar>() + row * y.row_stride;
    const Scalar* left = a.as<Scalar>() + row * a.row_stride;
    if (!b) {
#pragma omp simd
      for (int64_t c = 0; c < width; ++c) out[c] = of_a * left[c];
      return;
    }
    const Scalar* right = b.as<Scalar>() + row * b.row_stride;
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) out[c] = of_a * left[c] + of_b * right[c];
  });
}

template <typename Scalar>
void CpuOps<Scalar>::scale_forward(Tensor y, ConstTensor x, ConstTensor factor) {
  const int64_t width = y.columns();
  const Scalar* factors = factor.as<Scalar>();
  const bool one = factor.columns() == 1;
  for_each_row(threads_, y.rows(), [&](int64_t row) {
    Scalar* out = y.as<Scalar>() + row * y.row_stride;
    const Scalar* in = x.as<Scalar>() + row * x.row_stride;
    for (int64_t c = 0; c < width; ++c) out[c] = factors[one ? 0 : c] * in[c];
  });
}

template <typename Scalar>
void CpuOps<Scalar>::scale_backward(Tensor d_x, Tensor d_factor, ConstTensor d_y, ConstTensor x,
                                    ConstTensor factor) {
  const int64_t rows = x.rows(), width = x.columns();
  const auto gradient = [&](int64_t row) { return d_y.as<Scalar>() + row * d_y.row_stride; };
  const auto input = [&](int64_t row) { return x.as<Scalar>() + row * x.row_stride; };
  // Before d_x, which may take d_y's place.
  if (factor.columns() == 1) {
    *d_factor.as<Scalar>() += sum_of_rows(threads_, rows, partials_, [&](int64_t row) {
      return product_of_rows(gradient(row), input(row), width);
    });
  } else {
    partials_.assign(static_cast<size_t>(width), Scalar(0));
    parallel_ranges(threads_, width, 16, [&](int64_t first, int64_t last, int) {
      Scalar* sums = partials_.data();
      for (int64_t row = 0; row < rows; ++row) {
        const Scalar* g = gradient(row);
        const Scalar* i = input(row);
        for (int64_t c = first; c < last; ++c) sums[c] += g[c] * i[c];
      }
      for (int64_t c = first; c < last; ++c) d_factor.as<Scalar>()[c] += sums[c];
    });
  }
  scale_forward(d_x, d_y, factor);
}

template <typename Scalar>
void CpuOps<Scalar>::gpas_forward(Tensor y, ConstTensor x, ConstTensor gate) {
  scaled_sum(y, x, {}, {1 - static_cast<double>(silu(*gate.as<Scalar>())), 0});
}

template <typename Scalar>
void CpuOps<Scalar>::gpas_backward(Tensor d_gate, ConstTensor d_y, ConstTensor x,
                                   ConstTensor gate) {
  const Scalar sum = sum_of_rows(threads_, x.rows(), partials_, [&](int64_t row) {
    return product_of_rows(d_y.as<Scalar>() + row * d_y.row_stride,
                           x.as<Scalar>() + row * x.row_stride, x.columns());
  });
  *d_gate.as<Scalar>() -= silu_derivative(*gate.as<Scalar>()) * sum;
}

template class CpuOps<float>;
template class CpuOps<double>;

}  // namespace normlab
