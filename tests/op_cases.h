// The table of operators. A row (OpCase) says how a verb is called, what it must give, and how
// nearly; tests/op_check.h runs any row on any Ops. So a verb is described once, and checked on the
// CPU in float, in bf16 and in double, on the emulated and on the real GPU.
//
// To add a verb: in the op_cases_*.cpp of its group write the loop in double (it may include
// kernels/random.h, never kernels/formula.h: it is an independent witness), and a row with its
// tensors, its call and its derivatives.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace normlab {

// What the numbers are on the device: working_type(), gradient_type() (gradients of parameters,
// moments, masters), statistics_type(), i32, or f64 for what the host reads back.
enum class Element { working, gradient, statistics, token, result };

enum class Role {
  input,    // comes back unchanged, bit for bit
  updated,  // holds numbers that the verb accumulates into or changes in place
  written,  // holds NaN before: a verb that reads it, or leaves a part out, is found
};

// What an error is divided by: the largest element of the tensor, or of the matrix row.
enum class RelativeTo { tensor, row };

// A tensor of a row of the table, on the host and in double.
struct HostMatrix {
  std::string name;
  int64_t rows = 0;
  int64_t columns = 0;
  Role role = Role::input;
  Element element = Element::working;
  std::vector<double> values = {};  // (rows, columns)
  int64_t padding = 0;              // elements after each row on the device, which nobody may touch
  RelativeTo relative_to = RelativeTo::tensor;

  double& operator()(int64_t row, int64_t column) {
    return values[static_cast<size_t>(row * columns + column)];
  }
  double operator()(int64_t row, int64_t column) const {
    return values[static_cast<size_t>(row * columns + column)];
  }
};

// How a tensor is filled: numbers that float holds exactly, uniform with this mean and deviation, a
// function of the tensor's name and the element.
enum class Rows {
  plain,
  hard,  // row 1 is 3000 times larger, row 2 holds one number only
};
struct Fill {
  double deviation = 1;
  double mean = 0;
  Rows rows = Rows::plain;
};

class HostTensors {
 public:
  // Adds a tensor; the reference is good until the next one is added.
  HostMatrix& input(const std::string& name, int64_t rows, int64_t columns, Fill fill = {});
  HostMatrix& updated(const std::string& name, int64_t rows, int64_t columns, Fill fill = {});
  HostMatrix& written(const std::string& name, int64_t rows, int64_t columns);
  // Token ids below `vocabulary`.
  HostMatrix& tokens(const std::string& name, int64_t rows, int64_t columns, int64_t vocabulary);
  // Rounds all numbers to what `ops` holds, so that the reference begins with what a verb reads.
  void round_for(const Ops& ops);
  // A number in the working type of that Ops; in double before round_for().
  double rounded(double number) const;

  HostMatrix& operator[](const std::string& name);
  const HostMatrix& operator[](const std::string& name) const;
  const std::vector<HostMatrix>& all() const { return all_; }
  std::vector<HostMatrix>& all() { return all_; }

 private:
  HostMatrix& filled(const std::string& name, int64_t rows, int64_t columns, Role role, Fill fill);
  std::vector<HostMatrix> all_;
  DType working_type_ = DType::f64;
};

// The same tensors on the device of an Ops, as views with their row strides.
class DeviceTensors {
 public:
  DeviceTensors(Ops& ops, const HostTensors& tensors);

  Tensor operator[](const std::string& name) const;
  // The part of a packed tensor.
  Tensor columns(const std::string& name, int64_t first, int64_t count) const {
    return (*this)[name].column_slice(first, count);
  }
  void upload(const HostMatrix& matrix);
  // The numbers of the tensor of this name; throws where padding has been touched.
  void download(HostMatrix& matrix) const;
  void download(HostTensors& tensors) const;
  // What a tensor holds, padding included.
  std::vector<std::byte> bytes(const std::string& name) const;

 private:
  struct Slot {
    std::string name;
    Memory memory;
    Tensor view;   // (rows, columns)
    Tensor whole;  // (rows, columns + padding)
  };
  const Slot& slot(const std::string& name) const;
  Ops& ops_;
  std::vector<Slot> slots_;
};

// A tensor and that of its gradient, by name.
struct Derivative {
  std::string value;
  std::string gradient;
};

struct OpCase {
  std::string name;
  // Of the largest error in float. In double it is 1e-12 everywhere.
  double bound = 1e-6;
  // How often a number is rounded to bf16 on its way to a working tensor, at most. There each
  // rounding may add 2^−8, half a unit in the last place of the largest number, to the error.
  double roundings = 1;
  StepState state = {};
  HostTensors tensors = {};
  std::function<void(Ops&, const DeviceTensors&)> forward = {};
  // Runs after forward; empty for a verb without.
  std::function<void(Ops&, const DeviceTensors&)> backward = {};
  // All that forward and backward do, as loops in double.
  std::function<void(HostTensors&)> reference = {};
  // For finite differences of forward: the gradients of `outputs` are given (role input), those of
  // `inputs` are found by backward. Empty: nothing is differentiated.
  std::vector<Derivative> outputs = {};
  std::vector<Derivative> inputs = {};
};

// The rows of each group, and all of them.
std::vector<OpCase> move_cases();
std::vector<OpCase> embedding_cases();
std::vector<OpCase> norm_cases();
std::vector<OpCase> row_std_cases();
std::vector<OpCase> placement_op_cases();
std::vector<OpCase> linear_cases();
std::vector<OpCase> activation_cases();
std::vector<OpCase> attention_cases();
std::vector<OpCase> dropout_cases();
std::vector<OpCase> loss_cases();
std::vector<OpCase> update_cases();
std::vector<OpCase> all_op_cases();

// Whether dropout keeps an element of a sequence, as kernels/ops.h says.
bool dropout_keeps(const StepState& state, const Dropout& dropout, int64_t sequence,
                   int64_t element);

}  // namespace normlab
