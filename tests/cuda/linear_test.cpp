// Dense layers on CUDA over parts of packed tensors, and at the sizes that the table of operators
// (op_table_test.cpp) leaves out.
#include "catch.h"
#include "tests/op_check.h"

namespace normlab {
namespace {

// Inputs and outputs are columns of wider tensors, the weight is rows of a taller one, as q, k and
// v are: what lies beside the part must stay as it is.
struct Part {
  int64_t before;
  int64_t after;
};

struct Shape3 {
  int64_t rows, in, out;
};

void reference(HostTensors& t, const Shape3& shape, const Part& part) {
  const int64_t first = part.before;
  for (int64_t row = 0; row < shape.rows; ++row) {
    for (int64_t i = 0; i < shape.in; ++i) t["d_x"](row, first + i) = 0;
    for (int64_t o = 0; o < shape.out; ++o) {
      double sum = t["bias"](0, first + o);
      const double gradient = t["d_y"](row, first + o);
      for (int64_t i = 0; i < shape.in; ++i) {
        sum += t["x"](row, first + i) * t["weight"](first + o, i);
        t["d_x"](row, first + i) += gradient * t["weight"](first + o, i);
        t["d_weight"](first + o, i) += gradient * t["x"](row, first + i);
      }
      t["y"](row, first + o) = sum;
      t["d_bias"](0, first + o) += gradient;
    }
  }
}

OpCase linear_case(const std::string& name, const Shape3& shape, const Part& part) {
  OpCase op_case{.name = name, .bound = 2e-6};
  const int64_t beside = part.before + part.after;
  HostTensors& tensors = op_case.tensors;
  tensors.input("x", shape.rows, shape.in + beside);
  tensors.input("weight", shape.out + beside, shape.in, {0.2, 0.05});
  tensors.input("bias", 1, shape.out + beside);
  tensors.input("d_y", shape.rows, shape.out + beside);
  tensors.updated("y", shape.rows, shape.out + beside);
  tensors.updated("d_x", shape.rows, shape.in + beside);
  tensors.updated("d_weight", shape.out + beside, shape.in);
  tensors.updated("d_bias", 1, shape.out + beside);
  const int64_t first = part.before;
  op_case.forward = [=](Ops& ops, const DeviceTensors& t) {
    ops.linear_forward(t.columns("y", first, shape.out), t.columns("x", first, shape.in),
                       t["weight"].row_slice(first, shape.out),
                       t.columns("bias", first, shape.out));
  };
  op_case.backward = [=](Ops& ops, const DeviceTensors& t) {
    ops.linear_backward_input(t.columns("d_x", first, shape.in), t.columns("d_y", first, shape.out),
                              t["weight"].row_slice(first, shape.out));
    ops.linear_backward_weight(t["d_weight"].row_slice(first, shape.out),
                               t.columns("d_bias", first, shape.out),
                               t.columns("d_y", first, shape.out), t.columns("x", first, shape.in));
  };
  op_case.reference = [=](HostTensors& t) { reference(t, shape, part); };
  return op_case;
}

void check_on_cuda(Ops& ops, const OpCase& op_case) {
  for (const Deviation& deviation : deviations(op_case, ops)) {
    INFO(op_case.name << ", " << deviation.tensor);
    CHECK(deviation.error <= op_case.bound);
  }
}

}  // namespace

TEST_CASE("linear on CUDA: parts of packed tensors at any alignment") {
  const auto ops = make_ops(Device::cuda, Precision::fp32);
  // One shape and stride, so that only the alignment tells the plans apart.
  for (int64_t before : {0, 1, 2, 4, 8, 3}) {
    check_on_cuda(*ops, linear_case("part from " + std::to_string(before), {13, 24, 40},
                                    {before, 8 - before}));
  }
}

TEST_CASE("linear on CUDA: sizes of one, odd sizes, and many rows") {
  const auto ops = make_ops(Device::cuda, Precision::fp32);
  check_on_cuda(*ops, linear_case("one of all", {1, 1, 1}, {0, 0}));
  check_on_cuda(*ops, linear_case("one row", {1, 32, 64}, {0, 0}));
  check_on_cuda(*ops, linear_case("one input", {37, 1, 12}, {0, 0}));
  check_on_cuda(*ops, linear_case("one output", {37, 20, 1}, {0, 0}));
  check_on_cuda(*ops, linear_case("odd", {31, 37, 29}, {0, 0}));
  check_on_cuda(*ops, linear_case("a packed odd part", {7, 19, 23}, {5, 4}));
  // Several blocks add up the rows.
  check_on_cuda(*ops, linear_case("many rows", {1030, 8, 264}, {0, 0}));
  check_on_cuda(*ops, linear_case("many rows of a packed part", {1030, 8, 36}, {4, 3}));
}

TEST_CASE("linear on CUDA: a vocabulary of 50257") {
  const auto ops = make_ops(Device::cuda, Precision::fp32);
  check_on_cuda(*ops, linear_case("vocabulary", {3, 16, 50257}, {0, 0}));
}

TEST_CASE("linear on CUDA: column sums that outgrow scratch memory") {
  const auto ops = make_ops(Device::cuda, Precision::fp32);
  check_on_cuda(*ops, linear_case("few columns", {5, 1, 40}, {0, 0}));
  check_on_cuda(*ops, linear_case("many columns", {2, 1, 300'000}, {0, 0}));
}

TEST_CASE("linear on CUDA: only the bias lies elsewhere, or rows have a stride of no meaning") {
  const auto ops = make_ops(Device::cuda, Precision::fp32);
  const auto numbers = [&](const Memory& memory, int64_t rows, int64_t columns) {
    return Tensor(memory.data(), DType::f32, {rows, columns});
  };
  const Memory x_memory = ops->allocate(64), weight_memory = ops->allocate(64),
               bias_memory = ops->allocate(64), y_memory = ops->allocate(64);
  const Tensor x = numbers(x_memory, 1, 4), weight = numbers(weight_memory, 4, 4),
               bias = numbers(bias_memory, 1, 16), y = numbers(y_memory, 1, 4);
  const std::vector<float> ones(4, 1), identity = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
  std::vector<float> counting(16);
  for (size_t i = 0; i < counting.size(); ++i) counting[i] = static_cast<float>(i);
  ops->upload(x, ones.data());
  ops->upload(weight, identity.data());
  ops->upload(bias, counting.data());
  for (const int64_t first : {0, 4, 1, 2, 3, 8}) {
    // A stride of 1 between the rows of a single one.
    const Tensor single_x(x.data, DType::f32, {1, 4}, 1), single_y(y.data, DType::f32, {1, 4}, 1);
    ops->linear_forward(single_y, single_x, weight, bias.column_slice(first, 4));
    std::vector<float> found(4);
    ops->download(found.data(), y);
    const auto begin = static_cast<float>(first);
    CHECK(found == std::vector<float>{begin + 1, begin + 2, begin + 3, begin + 4});
  }
}

TEST_CASE("linear on CUDA: no rows change nothing") {
  const auto ops = make_ops(Device::cuda, Precision::fp32);
  check_on_cuda(*ops, linear_case("no rows", {0, 8, 12}, {0, 0}));
}

TEST_CASE("linear on CUDA: the same bits each time") {
  const auto one = make_ops(Device::cuda, Precision::fp32);
  const auto other = make_ops(Device::cuda, Precision::fp32);
  const OpCase op_case = linear_case("again", {300, 96, 132}, {0, 0});
  CHECK(different_bits(op_case, *one, *other).empty());
  CHECK(different_bits(op_case, *one, *one).empty());
}

}  // namespace normlab
