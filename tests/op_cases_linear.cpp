// Dense layers.
#include "tests/op_cases.h"

namespace normlab {
namespace {

enum class Bias { absent, present };

void linear_reference(HostTensors& t, Bias bias) {
  const HostMatrix& x = t["x"];
  const HostMatrix& weight = t["weight"];
  const HostMatrix& d_y = t["d_y"];
  HostMatrix& y = t["y"];
  HostMatrix& d_x = t["d_x"];
  HostMatrix& d_weight = t["d_weight"];
  d_x.values.assign(d_x.values.size(), 0);
  for (int64_t row = 0; row < x.rows; ++row) {
    for (int64_t o = 0; o < weight.rows; ++o) {
      double sum = bias == Bias::present ? t["bias"](0, o) : 0;
      const double gradient = d_y(row, o);
      for (int64_t i = 0; i < x.columns; ++i) {
        sum += x(row, i) * weight(o, i);
        d_x(row, i) += gradient * weight(o, i);
        d_weight(o, i) += gradient * x(row, i);
      }
      y(row, o) = sum;
      if (bias == Bias::present) t["d_bias"](0, o) += gradient;
    }
  }
}

// The weight is a part of the rows of a larger one, as q, k and v are of theirs.
OpCase linear_case(const std::string& name, double bound, int64_t rows, int64_t in, int64_t out,
                   Bias bias) {
  OpCase op_case{.name = name, .bound = bound};
  HostTensors& tensors = op_case.tensors;
  tensors.input("x", rows, in, {.rows = Rows::hard}).padding = 3;
  tensors.input("weight", out, in, {0.2, 0.05}).padding = 1;
  HostMatrix& y = tensors.written("y", rows, out);
  y.padding = 5;
  y.relative_to = RelativeTo::row;
  tensors.input("d_y", rows, out).padding = 2;
  tensors.written("d_x", rows, in).padding = 4;
  HostMatrix& d_weight = tensors.updated("d_weight", out, in);
  d_weight.padding = 6;
  d_weight.element = Element::gradient;
  if (bias == Bias::present) {
    tensors.input("bias", 1, out);
    tensors.updated("d_bias", 1, out).element = Element::gradient;
  }
  op_case.forward = [=](Ops& ops, const DeviceTensors& t) {
    ops.linear_forward(t["y"], t["x"], t["weight"], bias == Bias::present ? t["bias"] : Tensor());
  };
  op_case.backward = [=](Ops& ops, const DeviceTensors& t) {
    ops.linear_backward_input(t["d_x"], t["d_y"], t["weight"]);
    ops.linear_backward_weight(t["d_weight"], bias == Bias::present ? t["d_bias"] : Tensor(),
                               t["d_y"], t["x"]);
  };
  op_case.reference = [=](HostTensors& t) { linear_reference(t, bias); };
  op_case.outputs = {{"y", "d_y"}};
  op_case.inputs = {{"x", "d_x"}, {"weight", "d_weight"}};
  if (bias == Bias::present) op_case.inputs.push_back({"bias", "d_bias"});
  return op_case;
}

}  // namespace

std::vector<OpCase> linear_cases() {
  return {linear_case("linear, with bias", 1e-6, 37, 48, 52, Bias::present),
          linear_case("linear, without bias", 1e-6, 17, 48, 144, Bias::absent),
          linear_case("linear, one row", 1e-6, 1, 48, 33, Bias::present),
          linear_case("linear, one output", 2e-6, 9, 5, 1, Bias::present),
          linear_case("linear, one input", 1e-6, 9, 1, 12, Bias::absent),
          linear_case("linear, several tiles", 3e-6, 300, 500, 700, Bias::present),
          linear_case("linear, a long sum", 2e-6, 20, 3072, 40, Bias::absent)};
}

}  // namespace normlab
