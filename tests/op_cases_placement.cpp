// What placements of norms ask for beside norms: elementwise norms, sums with factors, learnt
// factors, gates.
#include <cmath>

#include "tests/op_cases.h"

namespace normlab {
namespace {

enum class Part { absent, present };

// Elements after each row: whole vectors where rows consist of such, else `odd`.
int64_t gap(int64_t width, int64_t odd) { return width % 8 == 0 ? 8 : odd; }

// --- y = a·x + b·z

OpCase scaled_sum_case(const std::string& name, int64_t rows, int64_t width, SumFactors factors,
                       Part second) {
  OpCase op_case{.name = name, .bound = 1e-6};
  HostTensors& tensors = op_case.tensors;
  tensors.input("a", rows, width, {.rows = Rows::hard}).padding = gap(width, 3);
  tensors.input("b", rows, width).padding = gap(width, 1);
  tensors.written("y", rows, width).relative_to = RelativeTo::row;
  tensors.updated("in_place", rows, width).padding = gap(width, 2);  // y in a's place
  const bool has_b = second == Part::present;
  op_case.forward = [=](Ops& ops, const DeviceTensors& t) {
    const ConstTensor b = has_b ? t["b"] : Tensor();
    ops.scaled_sum(t["y"], t["a"], b, factors);
    ops.scaled_sum(t["in_place"], t["in_place"], b, factors);
  };
  op_case.reference = [=](HostTensors& t) {
    for (size_t i = 0; i < t["y"].values.size(); ++i) {
      const double added = has_b ? factors.b * t["b"].values[i] : 0;
      t["y"].values[i] = factors.a * t["a"].values[i] + added;
      t["in_place"].values[i] = factors.a * t["in_place"].values[i] + added;
    }
  };
  return op_case;
}

// --- y = factor·x, one factor a column or one for all

void scale_reference(HostTensors& t) {
  const HostMatrix& factor = t["factor"];
  for (int64_t row = 0; row < t["x"].rows; ++row) {
    for (int64_t c = 0; c < t["x"].columns; ++c) {
      const int64_t place = factor.columns == 1 ? 0 : c;
      t["y"](row, c) = factor(0, place) * t["x"](row, c);
      t["d_factor"](0, place) += t["d_y"](row, c) * t["x"](row, c);
      t["d_x"](row, c) = factor(0, place) * t["d_y"](row, c);
    }
  }
}

OpCase scale_case(const std::string& name, int64_t rows, int64_t width, int64_t factors) {
  OpCase op_case{.name = name, .bound = 1e-6};
  HostTensors& tensors = op_case.tensors;
  tensors.input("x", rows, width).padding = gap(width, 3);
  tensors.input("factor", 1, factors, {.deviation = 0.5, .mean = 1});
  tensors.written("y", rows, width).padding = gap(width, 1);
  tensors.input("d_y", rows, width).padding = gap(width, 2);
  tensors.written("d_x", rows, width);
  tensors.updated("d_factor", 1, factors).element = Element::gradient;
  op_case.forward = [](Ops& ops, const DeviceTensors& t) {
    ops.scale_forward(t["y"], t["x"], t["factor"]);
  };
  // d_x in d_y's place.
  op_case.backward = [](Ops& ops, const DeviceTensors& t) {
    ops.copy(t["d_x"], t["d_y"]);
    ops.scale_backward(t["d_x"], t["d_factor"], t["d_x"], t["x"], t["factor"]);
  };
  op_case.reference = scale_reference;
  op_case.outputs = {{"y", "d_y"}};
  op_case.inputs = {{"x", "d_x"}, {"factor", "d_factor"}};
  return op_case;
}

// --- y = x − silu(gate)·x, where the second x is none of the gradient's: differences of y by the
// gate alone are its gradient

OpCase gpas_case(const std::string& name, int64_t rows, int64_t width) {
  OpCase op_case{.name = name, .bound = 2e-6};
  HostTensors& tensors = op_case.tensors;
  tensors.input("x", rows, width).padding = gap(width, 3);
  tensors.input("gate", 1, 1, {.deviation = 0.2, .mean = -0.5});
  tensors.written("y", rows, width).padding = gap(width, 1);
  tensors.input("d_y", rows, width).padding = gap(width, 2);
  tensors.updated("d_gate", 1, 1).element = Element::gradient;
  op_case.forward = [](Ops& ops, const DeviceTensors& t) {
    ops.gpas_forward(t["y"], t["x"], t["gate"]);
  };
  op_case.backward = [](Ops& ops, const DeviceTensors& t) {
    ops.gpas_backward(t["d_gate"], t["d_y"], t["x"], t["gate"]);
  };
  op_case.reference = [](HostTensors& t) {
    const double gate = t["gate"](0, 0);
    const double sigmoid = 1 / (1 + std::exp(-gate));
    const double slope = sigmoid + gate * sigmoid * (1 - sigmoid);
    for (size_t i = 0; i < t["x"].values.size(); ++i) {
      t["y"].values[i] = t["x"].values[i] - gate * sigmoid * t["x"].values[i];
      t["d_gate"](0, 0) -= slope * t["d_y"].values[i] * t["x"].values[i];
    }
  };
  op_case.outputs = {{"y", "d_y"}};
  op_case.inputs = {{"gate", "d_gate"}};
  return op_case;
}

// --- dyt and derf

struct ElementwiseSetting {
  NormKind kind = NormKind::dyt;
  int64_t rows = 0;
  int64_t width = 0;
  double scale = 1;
  Part d_residual = Part::present;
  Fill fill = {};
};

ElementwiseNorm norm_of(const DeviceTensors& t, const ElementwiseSetting& setting) {
  return {setting.kind,
          t["gain"],
          t["bias"],
          t["slope"],
          setting.kind == NormKind::derf ? ConstTensor(t["shift"]) : ConstTensor(),
          setting.scale};
}

void elementwise_reference(HostTensors& t, const ElementwiseSetting& setting) {
  const bool derf = setting.kind == NormKind::derf;
  const double slope = t["slope"](0, 0);
  const double shift = derf ? t["shift"](0, 0) : 0;
  const double two_by_root_pi = 2 / std::sqrt(std::acos(-1.0));
  for (int64_t row = 0; row < setting.rows; ++row) {
    for (int64_t c = 0; c < setting.width; ++c) {
      const double x = t["x"](row, c);
      const double u = slope * x + shift;
      const double f = derf ? std::erf(u) : std::tanh(u);
      const double d_f = derf ? two_by_root_pi * std::exp(-u * u) : 1 / std::pow(std::cosh(u), 2);
      const double d_y = setting.scale * t["d_y"](row, c);
      const double d_u = d_y * t["gain"](0, c) * d_f;
      t["y"](row, c) = setting.scale * (t["gain"](0, c) * f + t["bias"](0, c));
      t["d_gain"](0, c) += d_y * f;
      t["d_bias"](0, c) += d_y;
      t["d_slope"](0, 0) += d_u * x;
      if (derf) t["d_shift"](0, 0) += d_u;
      const bool past = setting.d_residual == Part::present;
      t["d_x"](row, c) = d_u * slope + (past ? t["d_residual"](row, c) : 0);
    }
  }
}

OpCase elementwise_case(const std::string& name, const ElementwiseSetting& setting) {
  OpCase op_case{.name = name, .bound = 3e-6};
  HostTensors& tensors = op_case.tensors;
  const int64_t rows = setting.rows, width = setting.width;
  tensors.input("x", rows, width, setting.fill).padding = gap(width, 3);
  tensors.input("gain", 1, width, {.deviation = 0.5, .mean = 1});
  tensors.input("bias", 1, width);
  tensors.input("slope", 1, 1, {.deviation = 0.1, .mean = 0.5});
  tensors.input("shift", 1, 1, {.deviation = 0.2, .mean = 0.25});
  tensors.written("y", rows, width).padding = gap(width, 1);
  tensors.input("d_y", rows, width).padding = gap(width, 2);
  tensors.input("d_residual", rows, width).padding = gap(width, 4);
  tensors.written("d_x", rows, width);
  for (const char* d_parameter : {"d_gain", "d_bias", "d_slope", "d_shift"}) {
    const bool vector = d_parameter[2] != 's';
    tensors.updated(d_parameter, 1, vector ? width : 1).element = Element::gradient;
  }
  op_case.forward = [=](Ops& ops, const DeviceTensors& t) {
    ops.elementwise_norm_forward(t["y"], t["x"], norm_of(t, setting));
  };
  // d_x in d_y's place.
  op_case.backward = [=](Ops& ops, const DeviceTensors& t) {
    const bool past = setting.d_residual == Part::present;
    const bool derf = setting.kind == NormKind::derf;
    ops.copy(t["d_x"], t["d_y"]);
    ops.elementwise_norm_backward(
        t["d_x"], {t["d_gain"], t["d_bias"], t["d_slope"], derf ? t["d_shift"] : Tensor()},
        t["d_x"], past ? ConstTensor(t["d_residual"]) : ConstTensor(), t["x"], norm_of(t, setting));
  };
  op_case.reference = [=](HostTensors& t) { elementwise_reference(t, setting); };
  if (setting.d_residual == Part::absent) {
    op_case.outputs = {{"y", "d_y"}};
    op_case.inputs = {{"x", "d_x"}, {"gain", "d_gain"}, {"bias", "d_bias"}, {"slope", "d_slope"}};
    if (setting.kind == NormKind::derf) op_case.inputs.push_back({"shift", "d_shift"});
  }
  return op_case;
}

}  // namespace

std::vector<OpCase> placement_op_cases() {
  constexpr NormKind kDerf = NormKind::derf;
  constexpr Part kNone = Part::absent;
  const Fill hard{.rows = Rows::hard};
  return {
      scaled_sum_case("scaled sum", 37, 48, {2.5, 0.75}, Part::present),
      scaled_sum_case("scaled sum, odd width, of one", 5, 33, {0.3, 0}, Part::absent),
      scaled_sum_case("scaled sum, large", 200, 500, {1.7, 1}, Part::present),
      scale_case("scale, a factor a column", 37, 48, 48),
      scale_case("scale, one factor", 19, 48, 1),
      scale_case("scale, one factor, odd width", 19, 33, 1),
      scale_case("scale, large", 200, 500, 500),
      scale_case("scale, one row", 1, 7, 1),
      gpas_case("gpas", 37, 48),
      gpas_case("gpas, odd width", 5, 33),
      gpas_case("gpas, large", 200, 500),
      elementwise_case("dyt", {.rows = 37, .width = 48}),
      elementwise_case("dyt, scaled, differences",
                       {.rows = 19, .width = 33, .scale = 0.7, .d_residual = kNone}),
      elementwise_case("dyt, hard rows", {.rows = 5, .width = 48, .fill = hard}),
      elementwise_case("dyt, large", {.rows = 200, .width = 500}),
      elementwise_case("derf", {.kind = kDerf, .rows = 37, .width = 48}),
      elementwise_case("derf, scaled, differences",
                       {.kind = kDerf, .rows = 19, .width = 33, .scale = 0.7, .d_residual = kNone}),
      elementwise_case("derf, hard rows", {.kind = kDerf, .rows = 5, .width = 48, .fill = hard}),
  };
}

}  // namespace normlab
