// GELU, SwiGLU, rotary positions, dropout.
#include <cmath>

#include "tests/op_cases.h"

namespace normlab {
namespace {

constexpr double kPi = 3.14159265358979323846;

// x/2·(1 + tanh √(2/π)(x + 0.044715x³)) and its derivative, by parts.
struct Gelu {
  double value;
  double slope;
};
Gelu gelu_at(double x) {
  const double root = std::sqrt(2 / kPi);
  const double t = std::tanh(root * (x + 0.044715 * std::pow(x, 3)));
  const double d_t = (1 - t * t) * root * (1 + 3 * 0.044715 * x * x);
  return {x / 2 * (1 + t), (1 + t) / 2 + x / 2 * d_t};
}

OpCase gelu_case(const std::string& name, int64_t rows, int64_t width, Fill fill) {
  OpCase op_case{.name = name, .bound = 1e-6};
  HostTensors& tensors = op_case.tensors;
  tensors.input("x", rows, width, fill).padding = 3;
  HostMatrix& y = tensors.written("y", rows, width);
  y.padding = 1;
  // A whole row in the negative tail is 0, or nearly.
  y.relative_to = fill.rows == Rows::hard ? RelativeTo::tensor : RelativeTo::row;
  tensors.input("d_y", rows, width).padding = 2;
  tensors.written("d_x", rows, width);
  tensors.updated("in_place", rows, width);  // d_x in d_y's place
  op_case.forward = [](Ops& ops, const DeviceTensors& t) { ops.gelu_forward(t["y"], t["x"]); };
  op_case.backward = [](Ops& ops, const DeviceTensors& t) {
    ops.gelu_backward(t["d_x"], t["d_y"], t["x"]);
    ops.gelu_backward(t["in_place"], t["in_place"], t["x"]);
  };
  op_case.reference = [](HostTensors& t) {
    for (size_t i = 0; i < t["x"].values.size(); ++i) {
      const Gelu gelu = gelu_at(t["x"].values[i]);
      t["y"].values[i] = gelu.value;
      t["d_x"].values[i] = gelu.slope * t["d_y"].values[i];
      t["in_place"].values[i] *= gelu.slope;
    }
  };
  op_case.outputs = {{"y", "d_y"}};
  op_case.inputs = {{"x", "d_x"}};
  return op_case;
}

void swiglu_reference(HostTensors& t) {
  const HostMatrix& gate_up = t["gate_up"];
  HostMatrix& y = t["y"];
  for (int64_t row = 0; row < y.rows; ++row) {
    for (int64_t c = 0; c < y.columns; ++c) {
      const double gate = gate_up(row, c);
      const double up = gate_up(row, y.columns + c);
      const double sigmoid = 1 / (1 + std::exp(-gate));
      const double d_y = t["d_y"](row, c);
      y(row, c) = gate * sigmoid * up;
      t["d_gate_up"](row, c) = d_y * up * (sigmoid + gate * sigmoid * (1 - sigmoid));
      t["d_gate_up"](row, y.columns + c) = d_y * gate * sigmoid;
    }
  }
}

OpCase swiglu_case(const std::string& name, int64_t rows, int64_t width, Fill fill) {
  OpCase op_case{.name = name, .bound = 1e-6};
  HostTensors& tensors = op_case.tensors;
  tensors.input("gate_up", rows, 2 * width, fill).padding = 3;
  HostMatrix& y = tensors.written("y", rows, width);
  y.padding = 1;
  y.relative_to = RelativeTo::row;
  tensors.input("d_y", rows, width).padding = 2;
  HostMatrix& d_gate_up = tensors.written("d_gate_up", rows, 2 * width);
  d_gate_up.padding = 5;
  d_gate_up.relative_to = RelativeTo::row;
  op_case.forward = [](Ops& ops, const DeviceTensors& t) {
    ops.swiglu_forward(t["y"], t["gate_up"]);
  };
  op_case.backward = [](Ops& ops, const DeviceTensors& t) {
    ops.swiglu_backward(t["d_gate_up"], t["d_y"], t["gate_up"]);
  };
  op_case.reference = swiglu_reference;
  op_case.outputs = {{"y", "d_y"}};
  op_case.inputs = {{"gate_up", "d_gate_up"}};
  return op_case;
}

struct RopeSize {
  int64_t batch, tokens, heads, head_size;
  double base;
  int64_t first_position;
};

// Turns x in place; direction 1 or −1.
void turn(HostMatrix& x, const RopeSize& size, double direction) {
  const int64_t half = size.head_size / 2;
  for (int64_t row = 0; row < x.rows; ++row) {
    const auto position = static_cast<double>(size.first_position + row % size.tokens);
    for (int64_t head = 0; head < size.heads; ++head) {
      for (int64_t i = 0; i < half; ++i) {
        const double exponent = 2 * static_cast<double>(i) / static_cast<double>(size.head_size);
        const double angle = direction * position / std::pow(size.base, exponent);
        double& low = x(row, head * size.head_size + i);
        double& high = x(row, head * size.head_size + half + i);
        const double turned = low * std::cos(angle) - high * std::sin(angle);
        high = low * std::sin(angle) + high * std::cos(angle);
        low = turned;
      }
    }
  }
}

OpCase rope_case(const std::string& name, const RopeSize& size) {
  OpCase op_case{.name = name, .bound = 1e-6};
  HostTensors& tensors = op_case.tensors;
  const int64_t rows = size.batch * size.tokens;
  const int64_t width = size.heads * size.head_size;
  tensors.input("x", rows, width);
  tensors.input("d_y", rows, width);
  tensors.written("y", rows, width).padding = 4;
  tensors.written("d_x", rows, width).padding = 7;
  op_case.forward = [=](Ops& ops, const DeviceTensors& t) {
    ops.copy(t["y"], t["x"]);
    ops.rope(t["y"], size.tokens, size.head_size, size.base, size.first_position,
             RopeDirection::forward);
  };
  op_case.backward = [=](Ops& ops, const DeviceTensors& t) {
    ops.copy(t["d_x"], t["d_y"]);
    ops.rope(t["d_x"], size.tokens, size.head_size, size.base, size.first_position,
             RopeDirection::backward);
  };
  op_case.reference = [=](HostTensors& t) {
    t["y"].values = t["x"].values;
    turn(t["y"], size, 1);
    t["d_x"].values = t["d_y"].values;
    turn(t["d_x"], size, -1);
  };
  op_case.outputs = {{"y", "d_y"}};
  op_case.inputs = {{"x", "d_x"}};
  return op_case;
}

OpCase dropout_case(const std::string& name, int64_t batch, int64_t tokens, int64_t width,
                    double probability) {
  const Dropout dropout{.probability = probability, .tensor = 7};
  OpCase op_case{.name = name, .bound = 1e-6, .state = {.seed = 11, .step = 3}};
  op_case.state.first_sequence = 5;
  HostTensors& tensors = op_case.tensors;
  tensors.input("x", batch * tokens, width).padding = 1;
  tensors.input("d_y", batch * tokens, width);
  tensors.written("y", batch * tokens, width).padding = 2;
  tensors.written("d_x", batch * tokens, width);
  op_case.forward = [=](Ops& ops, const DeviceTensors& t) {
    ops.dropout(t["y"], t["x"], batch, dropout);
  };
  op_case.backward = [=](Ops& ops, const DeviceTensors& t) {
    ops.copy(t["d_x"], t["d_y"]);
    ops.dropout(t["d_x"], t["d_x"], batch, dropout);
  };
  const StepState state = op_case.state;
  op_case.reference = [=](HostTensors& t) {
    for (int64_t row = 0; row < batch * tokens; ++row) {
      for (int64_t c = 0; c < width; ++c) {
        const bool kept = dropout_keeps(state, dropout, row / tokens, row % tokens * width + c);
        const double factor = kept ? 1 / (1 - probability) : 0;
        t["y"](row, c) = factor * t["x"](row, c);
        t["d_x"](row, c) = factor * t["d_y"](row, c);
      }
    }
  };
  op_case.outputs = {{"y", "d_y"}};
  op_case.inputs = {{"x", "d_x"}};
  return op_case;
}

}  // namespace

std::vector<OpCase> activation_cases() {
  return {gelu_case("gelu", 37, 48, {.deviation = 2}),
          gelu_case("gelu, far tails", 5, 33, {.deviation = 5, .rows = Rows::hard}),
          gelu_case("gelu, large", 200, 500, {.deviation = 2}),
          swiglu_case("swiglu", 37, 48, {.deviation = 2}),
          swiglu_case("swiglu, far tails", 5, 33, {.deviation = 5, .rows = Rows::hard}),
          swiglu_case("swiglu, large", 200, 500, {.deviation = 2}),
          rope_case("rope", {2, 13, 3, 16, 10000, 0}),
          rope_case("rope, from position 1000", {2, 7, 2, 12, 500000, 1000}),
          rope_case("rope, one token", {1, 1, 1, 2, 10000, 3}),
          rope_case("rope, large", {2, 200, 4, 64, 10000, 0})};
}

std::vector<OpCase> dropout_cases() {
  return {dropout_case("dropout, half", 3, 5, 7, 0.5),
          dropout_case("dropout, a tenth", 2, 65, 48, 0.1),
          dropout_case("dropout, off", 2, 3, 48, 0)};
}

}  // namespace normlab
