#include "tests/op_check.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "catch.h"

namespace normlab {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kBoundInDouble = 1e-12;
constexpr double kRounding = 0x1p-8;  // to bf16, as a share of the number
constexpr double kBoundOfGradient = 1e-7;
constexpr int64_t kMostElements = 150000;  // of a row that is differentiated

double difference(double found, double wanted) {
  if (found == wanted || (std::isnan(found) && std::isnan(wanted))) return 0;
  const double distance = std::fabs(found - wanted);
  return std::isfinite(distance) ? distance : kInfinity;
}

double largest_of(const HostMatrix& matrix, int64_t first_row, int64_t rows) {
  double largest = 0;
  for (int64_t row = first_row; row < first_row + rows; ++row) {
    for (int64_t column = 0; column < matrix.columns; ++column) {
      const double size = std::fabs(matrix(row, column));
      if (std::isfinite(size)) largest = std::max(largest, size);
    }
  }
  return largest;
}

double relative_error(const HostMatrix& found, const HostMatrix& wanted) {
  double worst = 0;
  const double largest = largest_of(wanted, 0, wanted.rows);
  for (int64_t row = 0; row < wanted.rows; ++row) {
    const double unit =
        wanted.relative_to == RelativeTo::row ? largest_of(wanted, row, 1) : largest;
    for (int64_t column = 0; column < wanted.columns; ++column) {
      const double distance = difference(found(row, column), wanted(row, column));
      if (distance > 0) worst = std::max(worst, distance / unit);
    }
  }
  return worst;
}

double bound_of(const OpCase& op_case, Element element, const Ops& ops) {
  switch (ops.working_type()) {
    case DType::f32:
      return op_case.bound;
    case DType::f64:
      return kBoundInDouble;
    case DType::bf16:
      // All others are computed in float from the rounded inputs.
      return op_case.bound + (element == Element::working ? op_case.roundings * kRounding : 0);
    case DType::i32:
      break;
  }
  throw Error("no Ops works in this type");
}

int64_t elements_of(const OpCase& op_case) {
  int64_t sum = 0;
  for (const HostMatrix& matrix : op_case.tensors.all()) sum += matrix.rows * matrix.columns;
  return sum;
}

void run(const OpCase& op_case, Ops& ops, const DeviceTensors& tensors) {
  ops.set_step_state(op_case.state);
  ops.zero_loss();
  op_case.forward(ops, tensors);
  if (op_case.backward) op_case.backward(ops, tensors);
}

// The slope of Σ over outputs of output · its given gradient, along elements of the inputs.
class Slopes {
 public:
  Slopes(const OpCase& op_case, Ops& ops)
      : op_case_(op_case), ops_(ops), device_(ops, op_case.tensors) {}

  // Central difference of fourth order. Outputs are subtracted one by one, before the sum: what
  // does not change leaves no rounding behind.
  double operator()(HostMatrix input, size_t element) {
    const double centre = input.values[element];
    const double step = 3e-5 * std::max(1.0, std::fabs(centre));
    const auto outputs_at = [&](double steps) {
      input.values[element] = centre + steps * step;
      return outputs_with(input);
    };
    const std::vector<double> near[] = {outputs_at(-1), outputs_at(1)};
    const std::vector<double> far[] = {outputs_at(-2), outputs_at(2)};
    device_.upload(op_case_.tensors[input.name]);
    double slope = 0;
    size_t at = 0;
    for (const Derivative& output : op_case_.outputs) {
      for (const double gradient : op_case_.tensors[output.gradient].values) {
        const double change = 8 * (near[1][at] - near[0][at]) - (far[1][at] - far[0][at]);
        slope += gradient * change / (12 * step);
        ++at;
      }
    }
    return slope;
  }

 private:
  // All outputs, one after the other.
  std::vector<double> outputs_with(const HostMatrix& changed) {
    device_.upload(changed);
    ops_.set_step_state(op_case_.state);
    op_case_.forward(ops_, device_);
    std::vector<double> values;
    for (const Derivative& output : op_case_.outputs) {
      HostMatrix found = op_case_.tensors[output.value];
      device_.download(found);
      values.insert(values.end(), found.values.begin(), found.values.end());
    }
    return values;
  }

  const OpCase& op_case_;
  Ops& ops_;
  DeviceTensors device_;
};

// Element indices to differentiate: all of a small tensor, some sixty of a large one.
std::vector<size_t> sample(size_t elements) {
  constexpr size_t kMost = 64;
  std::vector<size_t> chosen;
  const size_t stride = elements <= kMost ? 1 : elements / kMost;
  for (size_t i = 0; i < elements; i += stride) {
    // Not always the same column.
    chosen.push_back(i + (stride > 1 ? i / stride % stride : 0));
  }
  while (!chosen.empty() && chosen.back() >= elements) chosen.pop_back();
  return chosen;
}

}  // namespace

std::vector<Deviation> deviations(const OpCase& op_case, Ops& ops) {
  const DeviceTensors device(ops, op_case.tensors);
  run(op_case, ops, device);
  HostTensors found = op_case.tensors;
  device.download(found);
  HostTensors wanted = op_case.tensors;
  wanted.round_for(ops);
  op_case.reference(wanted);

  std::vector<Deviation> all;
  for (const HostMatrix& matrix : wanted.all()) {
    const double error = relative_error(found[matrix.name], matrix);
    if (matrix.role != Role::input) {
      all.push_back({matrix.name, error, bound_of(op_case, matrix.element, ops)});
    } else if (error != 0) {
      throw Error(op_case.name + ": the input " + matrix.name + " has been written to");
    }
  }
  return all;
}

std::vector<Deviation> gradient_deviations(const OpCase& op_case, Ops& ops) {
  const DeviceTensors device(ops, op_case.tensors);
  run(op_case, ops, device);
  HostTensors found = op_case.tensors;
  device.download(found);

  Slopes slopes(op_case, ops);
  std::vector<Deviation> all;
  for (const Derivative& input : op_case.inputs) {
    const HostMatrix& before = op_case.tensors[input.gradient];
    const HostMatrix& after = found[input.gradient];
    const auto gradient = [&](size_t element) {
      const double already = before.role == Role::updated ? before.values[element] : 0;
      return after.values[element] - already;
    };
    double worst = 0;
    double largest = 0;
    for (size_t i = 0; i < after.values.size(); ++i) {
      largest = std::max(largest, std::fabs(gradient(i)));
    }
    for (const size_t element : sample(after.values.size())) {
      const double slope = slopes(op_case.tensors[input.value], element);
      worst = std::max(worst, difference(gradient(element), slope));
    }
    all.push_back({input.gradient + " of " + input.value, worst / largest, kBoundOfGradient});
  }
  return all;
}

std::vector<std::string> different_bits(const OpCase& op_case, Ops& one, Ops& other) {
  const DeviceTensors first(one, op_case.tensors);
  const DeviceTensors second(other, op_case.tensors);
  run(op_case, one, first);
  run(op_case, other, second);
  std::vector<std::string> names;
  for (const HostMatrix& matrix : op_case.tensors.all()) {
    if (first.bytes(matrix.name) != second.bytes(matrix.name)) names.push_back(matrix.name);
  }
  return names;
}

void check_equals_reference(const std::vector<OpCase>& cases, Ops& ops) {
  for (const OpCase& op_case : cases) {
    for (const Deviation& deviation : deviations(op_case, ops)) {
      INFO(op_case.name << ", " << deviation.tensor << " on " << ops.device_name()
                        << " in numbers of " << size_of(ops.working_type()) << " bytes");
      CHECK(deviation.error <= deviation.bound);
    }
  }
}

void check_equals_reference(const std::vector<OpCase>& cases) {
  for (const Precision precision : {Precision::fp32, Precision::bf16, Precision::fp64}) {
    check_equals_reference(cases, *make_ops(Device::cpu, precision, 2));
  }
}

void check_equals_finite_differences(const std::vector<OpCase>& cases) {
  const auto ops = make_ops(Device::cpu, Precision::fp64, 1);
  int differentiated = 0;
  for (const OpCase& op_case : cases) {
    // Large rows are there for their tiles; smaller ones show the same derivative.
    if (elements_of(op_case) > kMostElements) continue;
    for (const Deviation& deviation : gradient_deviations(op_case, *ops)) {
      INFO(op_case.name << ", " << deviation.tensor);
      CHECK(deviation.error <= deviation.bound);
      ++differentiated;
    }
  }
  CHECK(differentiated > 0);
}

void check_threads_give_same_bits(const std::vector<OpCase>& cases) {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    const auto one = make_ops(Device::cpu, precision, 1);
    const auto two = make_ops(Device::cpu, precision, 2);
    for (const OpCase& op_case : cases) {
      INFO(op_case.name << " on " << one->device_name());
      CHECK(different_bits(op_case, *one, *two) == std::vector<std::string>{});
    }
  }
}

}  // namespace normlab
