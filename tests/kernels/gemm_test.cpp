// Products on the CPU, by each kind of vectors that this processor has.
#include "kernels/cpu/gemm.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <thread>

#include "catch.h"
#include "kernels/cpu/gemm_kernel.h"

using namespace normlab;

namespace {

template <typename Scalar>
const GemmKernel<Scalar>& kernel_of(const GemmKernels& kernels);
template <>
const GemmKernel<float>& kernel_of(const GemmKernels& kernels) {
  return kernels.single_precision;
}
template <>
const GemmKernel<double>& kernel_of(const GemmKernels& kernels) {
  return kernels.double_precision;
}

struct Shape {
  int64_t m, n, k;
  bool a_turned, b_turned;
};

std::string text(const Shape& shape) {
  return std::to_string(shape.m) + " x " + std::to_string(shape.n) + " x " +
         std::to_string(shape.k) + (shape.a_turned ? ", a turned" : "") +
         (shape.b_turned ? ", b turned" : "");
}

// A matrix among numbers that are not its own.
template <typename Scalar>
struct Stored {
  static constexpr int64_t kAround = 3;
  int64_t rows, columns, stride;
  std::vector<Scalar> numbers;

  Stored(int64_t rows_, int64_t columns_, uint32_t seed)
      : rows(rows_),
        columns(columns_),
        stride(columns_ + 2 * kAround),
        numbers(static_cast<size_t>((rows + 2) * stride),
                std::numeric_limits<Scalar>::quiet_NaN()) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<Scalar> uniform(-1, 1);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < columns; ++column) at(row, column) = uniform(random);
    }
  }
  Scalar* data() { return numbers.data() + stride + kAround; }
  const Scalar* data() const { return numbers.data() + stride + kAround; }
  Scalar& at(int64_t row, int64_t column) { return data()[row * stride + column]; }
  Scalar at(int64_t row, int64_t column) const { return data()[row * stride + column]; }
  bool same_bits(const Stored& other) const {
    return std::memcmp(numbers.data(), other.numbers.data(), numbers.size() * sizeof(Scalar)) == 0;
  }
};

template <typename Scalar>
struct Operands {
  Shape shape;
  Stored<Scalar> a, b, c;
  explicit Operands(const Shape& s)
      : shape(s),
        a(s.a_turned ? s.k : s.m, s.a_turned ? s.m : s.k, 1),
        b(s.b_turned ? s.n : s.k, s.b_turned ? s.k : s.n, 2),
        c(s.m, s.n, 3) {}
  Scalar left(int64_t row, int64_t i) const { return shape.a_turned ? a.at(i, row) : a.at(row, i); }
  Scalar right(int64_t i, int64_t column) const {
    return shape.b_turned ? b.at(column, i) : b.at(i, column);
  }
  Matrix<const Scalar> matrix(const Stored<Scalar>& stored, bool turned) const {
    return {stored.data(), stored.stride, turned ? Transpose::yes : Transpose::no};
  }
  Stored<Scalar> product(const GemmKernel<Scalar>& kernel, int threads, Scalar alpha,
                         Store store) const {
    Stored<Scalar> result = c;
    gemm_by<Scalar>(kernel, threads, shape.m, shape.n, shape.k, alpha, matrix(a, shape.a_turned),
                    matrix(b, shape.b_turned), store, {result.data(), result.stride});
    return result;
  }
};

bool is_few_rows(const Shape& shape) {
  return shape.m <= kFewRows && !shape.a_turned && shape.b_turned;
}

// What gemm.h promises of each element, one by one.
template <typename Scalar>
Stored<Scalar> promised(const Operands<Scalar>& operands, Scalar alpha, Store store, bool fused) {
  const Shape& shape = operands.shape;
  const auto add_product = [&](Scalar sum, Scalar x, Scalar y) {
    const Scalar product = x * y;
    return fused ? std::fma(x, y, sum) : sum + product;
  };
  const int64_t parts = (shape.k + 255) / 256;
  const int64_t depth = (shape.k + parts - 1) / parts;
  Stored<Scalar> result = operands.c;
  for (int64_t row = 0; row < shape.m; ++row) {
    for (int64_t column = 0; column < shape.n; ++column) {
      Scalar& element = result.at(row, column);
      if (store == Store::replace) element = 0;
      if (is_few_rows(shape)) {
        constexpr int64_t kLanes = 64 / sizeof(Scalar);
        Scalar lanes[kLanes] = {};
        for (int64_t i = 0; i < shape.k; ++i) {
          lanes[i % kLanes] =
              add_product(lanes[i % kLanes], operands.left(row, i), operands.right(i, column));
        }
        for (int64_t half = kLanes / 2; half > 0; half /= 2) {
          for (int64_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
        }
        const Scalar scaled = lanes[0] * alpha;
        element += scaled;
        continue;
      }
      for (int64_t first = 0; first < shape.k; first += depth) {
        Scalar sum = 0;
        for (int64_t i = first; i < std::min(first + depth, shape.k); ++i) {
          sum = add_product(sum, operands.left(row, i), operands.right(i, column));
        }
        const Scalar scaled = sum * alpha;
        element += scaled;
      }
    }
  }
  return result;
}

// Around the sizes of panels, tiles, parts and blocks of every kernel.
std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{1, 1, 1},
                                {1, 7, 33},
                                {3, 130, 15},
                                {5, 66, 16},
                                {16, 9, 100},
                                {17, 17, 17},
                                {6, 16, 256},
                                {14, 32, 257},
                                {29, 65, 300},
                                {97, 131, 64},
                                {200, 300, 40},
                                {2, 4200, 8},
                                {4200, 3, 5},
                                {40, 40, 1100}}) {
    for (const bool a_turned : {false, true}) {
      for (const bool b_turned : {false, true}) all.push_back({m, n, k, a_turned, b_turned});
    }
  }
  return all;
}

template <typename Scalar>
void check_promise(const GemmKernels& kernels) {
#if defined(__FP_FAST_FMAF)
  const bool fused = true;  // also the baseline of this architecture
#else
  const bool fused = std::string(kernels.name) != "baseline";
#endif
  for (const Shape& shape : shapes()) {
    const Operands<Scalar> operands(shape);
    for (const Store store : {Store::replace, Store::add}) {
      for (const Scalar alpha : {Scalar(1), Scalar(0.3)}) {
        INFO(kernels.name << ", " << text(shape) << ", alpha " << alpha);
        const Stored<Scalar> result = operands.product(kernel_of<Scalar>(kernels), 2, alpha, store);
        // To the bit, and what is around c as well.
        CHECK(result.same_bits(promised(operands, alpha, store, fused)));
      }
    }
  }
}

template <typename Scalar>
double error_beside_eigen(const Shape& shape) {
  using Whole = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic>;
  const Operands<Scalar> operands(shape);
  Whole left(shape.m, shape.k), right(shape.k, shape.n);
  for (int64_t i = 0; i < shape.k; ++i) {
    for (int64_t row = 0; row < shape.m; ++row) left(row, i) = operands.left(row, i);
    for (int64_t column = 0; column < shape.n; ++column)
      right(i, column) = operands.right(i, column);
  }
  const Whole expected = left * right;
  Stored<Scalar> result = operands.c;
  gemm<Scalar>(2, shape.m, shape.n, shape.k, 1, operands.matrix(operands.a, shape.a_turned),
               operands.matrix(operands.b, shape.b_turned), Store::replace,
               {result.data(), result.stride});
  double error = 0;
  for (int64_t row = 0; row < shape.m; ++row) {
    for (int64_t column = 0; column < shape.n; ++column) {
      error = std::max(error, std::abs(result.at(row, column) - expected(row, column)));
    }
  }
  return error;
}

}  // namespace

TEST_CASE("gemm: every element is the sum that is promised, to the bit, by all vectors") {
  for (const GemmKernels& kernels : gemm_kernels()) {
    check_promise<float>(kernels);
    check_promise<double>(kernels);
  }
}

TEST_CASE("gemm: the bits do not depend on the number of threads") {
  // The last of several blocks of rows is too short for the tiles of the others.
  for (const Shape& shape :
       {Shape{211, 530, 700, true, false}, Shape{2689, 192, 300, true, false},
        Shape{2689, 320, 20, false, true}, Shape{4200, 300, 260, false, false}}) {
    const Operands<float> operands(shape);
    for (const GemmKernels& kernels : gemm_kernels()) {
      const auto one = operands.product(kernels.single_precision, 1, 1, Store::add);
      for (const int threads : {2, 3, 4, 7, 8}) {
        INFO(text(shape) << ", " << kernels.name << ", threads " << threads);
        bool same = false;
        // In a thread without memory of earlier products.
        std::thread([&] {
          const auto many = operands.product(kernels.single_precision, threads, 1, Store::add);
          same = many.same_bits(one);
        }).join();
        CHECK(same);
      }
    }
  }
}

TEST_CASE("gemm: several blocks of lines and of parts are the product that Eigen computes") {
  CHECK(error_beside_eigen<float>({2100, 70, 1300, false, true}) < 1e-4);
  CHECK(error_beside_eigen<float>({70, 2100, 1300, true, false}) < 1e-4);
  CHECK(error_beside_eigen<double>({2100, 2100, 30, false, false}) < 1e-13);
}

TEST_CASE("gemm: of nothing is nothing") {
  std::vector<float> c(12, 5.0f);
  gemm<float>(2, 3, 4, 0, 1, {c.data(), 4}, {c.data(), 4}, Store::add, {c.data(), 4});
  CHECK(c == std::vector<float>(12, 5.0f));
  gemm<float>(2, 3, 3, 0, 1, {c.data(), 4}, {c.data(), 4}, Store::replace, {c.data(), 4});
  CHECK(c == std::vector<float>({0, 0, 0, 5, 0, 0, 0, 5, 0, 0, 0, 5}));
  gemm<float>(2, 0, 4, 2, 1, {c.data(), 4}, {c.data(), 4}, Store::replace, {c.data(), 4});
  gemm<float>(2, 4, 0, 2, 1, {c.data(), 4}, {c.data(), 4}, Store::replace, {c.data(), 4});
  CHECK(c == std::vector<float>({0, 0, 0, 5, 0, 0, 0, 5, 0, 0, 0, 5}));
}
