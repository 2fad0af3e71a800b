#include "tests/op_cases.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/bfloat16.h"
#include "kernels/random.h"

namespace normlab {
namespace {

constexpr double kPadding = -12288;  // which bf16 holds too
constexpr double kLargeRow = 3000;

uint64_t key_of(const std::string& name) {
  uint64_t key = 0;
  for (const char letter : name) key = mix(key ^ static_cast<unsigned char>(letter));
  return key;
}

// Uniform in [−1, 1).
double uniform(uint64_t key, int64_t index) {
  const RandomBlock block = element_block(key, 0, static_cast<uint64_t>(index));
  return static_cast<double>(block[0]) / 2147483648.0 - 1;
}

DType dtype_on(const Ops& ops, Element element) {
  switch (element) {
    case Element::working:
      return ops.working_type();
    case Element::gradient:
      return ops.gradient_type();
    case Element::statistics:
      return ops.statistics_type();
    case Element::token:
      return DType::i32;
    case Element::result:
      return DType::f64;
  }
  throw Error("unknown element");
}

template <typename T>
void encode(std::byte* bytes, double value) {
  const T stored = static_cast<T>(value);
  std::memcpy(bytes, &stored, sizeof(T));
}

template <typename T>
double decode(const std::byte* bytes) {
  T stored;
  std::memcpy(&stored, bytes, sizeof(T));
  return static_cast<double>(stored);
}

void encode_as(DType dtype, std::byte* bytes, double value) {
  switch (dtype) {
    case DType::f32:
      return encode<float>(bytes, value);
    case DType::f64:
      return encode<double>(bytes, value);
    case DType::i32:
      return encode<int32_t>(bytes, value);
    case DType::bf16: {
      const BFloat16 stored = round_to_bfloat16(static_cast<float>(value));
      std::memcpy(bytes, &stored, sizeof(stored));
      return;
    }
  }
}

double decode_as(DType dtype, const std::byte* bytes) {
  switch (dtype) {
    case DType::f32:
      return decode<float>(bytes);
    case DType::f64:
      return decode<double>(bytes);
    case DType::i32:
      return decode<int32_t>(bytes);
    case DType::bf16: {
      BFloat16 stored;
      std::memcpy(&stored, bytes, sizeof(stored));
      return static_cast<double>(to_float(stored));
    }
  }
  throw Error("unknown type");
}

double rounded_to(DType dtype, double value) {
  std::byte bytes[sizeof(double)];
  encode_as(dtype, bytes, value);
  return decode_as(dtype, bytes);
}

}  // namespace

HostMatrix& HostTensors::filled(const std::string& name, int64_t rows, int64_t columns, Role role,
                                Fill fill) {
  HostMatrix matrix{.name = name, .rows = rows, .columns = columns, .role = role};
  matrix.values.resize(static_cast<size_t>(rows * columns));
  const uint64_t key = key_of(name);
  for (int64_t row = 0; row < rows; ++row) {
    const bool constant = fill.rows == Rows::hard && row == 2;
    const double factor = fill.rows == Rows::hard && row == 1 ? kLargeRow : 1;
    for (int64_t column = 0; column < columns; ++column) {
      const double u = uniform(key, row * columns + (constant ? 0 : column));
      const double value = factor * (fill.mean + fill.deviation * std::sqrt(3.0) * u);
      matrix(row, column) = static_cast<double>(static_cast<float>(value));
    }
  }
  all_.push_back(matrix);
  return all_.back();
}

HostMatrix& HostTensors::input(const std::string& name, int64_t rows, int64_t columns, Fill fill) {
  return filled(name, rows, columns, Role::input, fill);
}

HostMatrix& HostTensors::updated(const std::string& name, int64_t rows, int64_t columns,
                                 Fill fill) {
  return filled(name, rows, columns, Role::updated, fill);
}

HostMatrix& HostTensors::written(const std::string& name, int64_t rows, int64_t columns) {
  HostMatrix& matrix = filled(name, rows, columns, Role::written, {});
  matrix.values.assign(matrix.values.size(), std::numeric_limits<double>::quiet_NaN());
  return matrix;
}

HostMatrix& HostTensors::tokens(const std::string& name, int64_t rows, int64_t columns,
                                int64_t vocabulary) {
  HostMatrix& matrix = filled(name, rows, columns, Role::input, {});
  matrix.element = Element::token;
  for (int64_t i = 0; i < rows * columns; ++i) {
    const double share = (uniform(key_of(name), i) + 1) / 2;
    matrix.values[static_cast<size_t>(i)] = std::floor(share * static_cast<double>(vocabulary));
  }
  return matrix;
}

void HostTensors::round_for(const Ops& ops) {
  working_type_ = ops.working_type();
  for (HostMatrix& matrix : all_) {
    const DType dtype = dtype_on(ops, matrix.element);
    for (double& value : matrix.values) value = rounded_to(dtype, value);
  }
}

double HostTensors::rounded(double number) const { return rounded_to(working_type_, number); }

HostMatrix& HostTensors::operator[](const std::string& name) {
  for (HostMatrix& matrix : all_) {
    if (matrix.name == name) return matrix;
  }
  throw Error("the row of the table has no tensor " + name);
}

const HostMatrix& HostTensors::operator[](const std::string& name) const {
  return const_cast<HostTensors&>(*this)[name];
}

DeviceTensors::DeviceTensors(Ops& ops, const HostTensors& tensors) : ops_(ops) {
  for (const HostMatrix& matrix : tensors.all()) {
    const DType dtype = dtype_on(ops, matrix.element);
    const int64_t stride = matrix.columns + matrix.padding;
    Memory memory = ops.allocate(matrix.rows * stride * size_of(dtype));
    const Tensor whole(memory.data(), dtype, Shape{matrix.rows, stride});
    slots_.push_back(
        {matrix.name, std::move(memory), whole.column_slice(0, matrix.columns), whole});
    upload(matrix);
  }
}

const DeviceTensors::Slot& DeviceTensors::slot(const std::string& name) const {
  for (const Slot& slot : slots_) {
    if (slot.name == name) return slot;
  }
  throw Error("the row of the table has no tensor " + name);
}

Tensor DeviceTensors::operator[](const std::string& name) const { return slot(name).view; }

void DeviceTensors::upload(const HostMatrix& matrix) {
  const Tensor target = slot(matrix.name).whole;
  const int64_t size = size_of(target.dtype);
  std::vector<std::byte> staged(static_cast<size_t>(target.elements() * size));
  for (int64_t row = 0; row < target.rows(); ++row) {
    for (int64_t column = 0; column < target.columns(); ++column) {
      const double value = column < matrix.columns ? matrix(row, column) : kPadding;
      encode_as(target.dtype,
                &staged[static_cast<size_t>((row * target.columns() + column) * size)], value);
    }
  }
  ops_.upload(target, staged.data());
}

void DeviceTensors::download(HostMatrix& matrix) const {
  const Tensor source = slot(matrix.name).whole;
  const std::vector<std::byte> found = bytes(matrix.name);
  const int64_t size = size_of(source.dtype);
  for (int64_t row = 0; row < source.rows(); ++row) {
    for (int64_t column = 0; column < source.columns(); ++column) {
      const double value = decode_as(
          source.dtype, &found[static_cast<size_t>((row * source.columns() + column) * size)]);
      if (column < matrix.columns) {
        matrix(row, column) = value;
      } else if (value != kPadding) {
        throw Error("the padding of " + matrix.name + " has been written to");
      }
    }
  }
}

void DeviceTensors::download(HostTensors& tensors) const {
  for (HostMatrix& matrix : tensors.all()) download(matrix);
}

std::vector<std::byte> DeviceTensors::bytes(const std::string& name) const {
  const Tensor source = slot(name).whole;
  std::vector<std::byte> found(static_cast<size_t>(source.elements() * size_of(source.dtype)));
  ops_.download(found.data(), source);
  return found;
}

std::vector<OpCase> all_op_cases() {
  std::vector<OpCase> all;
  for (const auto& group :
       {move_cases, embedding_cases, norm_cases, placement_op_cases, row_std_cases, linear_cases,
        activation_cases, attention_cases, dropout_cases, loss_cases, update_cases}) {
    for (OpCase& op_case : group()) all.push_back(std::move(op_case));
  }
  return all;
}

bool dropout_keeps(const StepState& state, const Dropout& dropout, int64_t sequence,
                   int64_t element) {
  const uint64_t key =
      sequence_key(state.seed, state.step, static_cast<uint64_t>(state.first_sequence + sequence));
  const RandomBlock block = element_block(key, dropout.tensor, static_cast<uint64_t>(element) / 4);
  const double share = static_cast<double>(block[static_cast<size_t>(element % 4)]) / 4294967296.0;
  return share >= dropout.probability;
}

}  // namespace normlab
