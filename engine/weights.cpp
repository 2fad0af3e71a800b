#include "engine/weights.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "engine/safetensors.h"
#include "kernels/bfloat16.h"

namespace normlab {
namespace {

// (rows, columns) to (columns, rows).
std::vector<float> transposed(const std::vector<float>& values, int64_t rows, int64_t columns) {
  std::vector<float> out(values.size());
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      out[static_cast<size_t>(column * rows + row)] =
          values[static_cast<size_t>(row * columns + column)];
    }
  }
  return out;
}

std::vector<int64_t> dimensions(const Shape& shape) {
  return {shape.extents.begin(), shape.extents.begin() + shape.rank};
}

std::string text_of(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

// Of the masters, or of the values where there are none.
Tensor slice_of(const Model& model, const NamedSlice& slice, Tensor masters) {
  const Parameter& parameter = model.parameters()[static_cast<size_t>(slice.parameter)];
  const Tensor whole = masters ? parameter.part_of(masters) : parameter.value;
  return whole.row_slice(slice.first_row, slice.rows);
}

// The name under which a file holds a tensor: its own, or without the model's prefix.
std::string name_in(const SafetensorsFile& file, const std::string& name) {
  for (const char* prefix : {"transformer.", "model."}) {
    if (!file.contains(name) && name.starts_with(prefix)) {
      return name.substr(std::strlen(prefix));
    }
  }
  return name;
}

bool known_extra(const std::string& name, const ModelConfig& config) {
  return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") ||
         name.ends_with("rotary_emb.inv_freq") ||
         (config.tie_embeddings && name == "lm_head.weight");
}

}  // namespace

std::vector<float> download_floats(Ops& ops, ConstTensor tensor) {
  const auto count = static_cast<size_t>(tensor.elements());
  std::vector<float> values(count);
  switch (tensor.dtype) {
    case DType::f32:
      ops.download(values.data(), tensor);
      return values;
    case DType::f64: {
      std::vector<double> wide(count);
      ops.download(wide.data(), tensor);
      std::copy(wide.begin(), wide.end(), values.begin());
      return values;
    }
    case DType::bf16: {
      std::vector<BFloat16> narrow(count);
      ops.download(narrow.data(), tensor);
      std::transform(narrow.begin(), narrow.end(), values.begin(), to_float);
      return values;
    }
    case DType::i32:
      break;
  }
  throw Error("a tensor of a type that has no floats");
}

void upload_floats(Ops& ops, Tensor tensor, const std::vector<float>& values) {
  switch (tensor.dtype) {
    case DType::f32:
      ops.upload(tensor, values.data());
      return;
    case DType::f64: {
      const std::vector<double> wide(values.begin(), values.end());
      ops.upload(tensor, wide.data());
      return;
    }
    case DType::bf16: {
      std::vector<BFloat16> narrow(values.size());
      std::transform(values.begin(), values.end(), narrow.begin(), round_to_bfloat16);
      ops.upload(tensor, narrow.data());
      return;
    }
    case DType::i32:
      break;
  }
  throw Error("a tensor of a type that has no floats");
}

void load_weights(Model& model, const std::string& directory, Tensor masters) {
  const SafetensorsFile file(directory + "/model.safetensors");
  std::set<std::string> used;
  for (const NamedSlice& slice : file_names(model.config())) {
    const std::string name = name_in(file, slice.name);
    if (!file.contains(name)) {
      throw input_error(file.path() + ": tensor " + slice.name +
                        " is missing (config.json asks for it). Copy the file again, or take the " +
                        "config.json that belongs to it");
    }
    const std::vector<int64_t>& shape = file.tensors().at(name).shape;
    if (shape != dimensions(slice.shape)) {
      throw input_error(file.path() + ": tensor " + name + " has shape " + text_of(shape) +
                        " (config.json asks for " + text_of(dimensions(slice.shape)) +
                        "). Take the config.json that belongs to it");
    }
    std::vector<float> values = file.read(name);
    if (slice.transposed) {
      values = transposed(values, slice.shape.rows(), slice.shape.columns());
    }
    upload_floats(model.ops(), slice_of(model, slice, masters), values);
    used.insert(name);
  }
  for (const auto& [name, tensor] : file.tensors()) {
    if (!used.contains(name) && !known_extra(name, model.config())) {
      throw input_error(file.path() + ": tensor " + name +
                        " is not part of the model that config.json describes (it would be left "
                        "out). Take the config.json that belongs to it");
    }
  }
  if (masters) model.ops().round_weights(model.values(), masters);
}

uint64_t write_weights(const Model& model, const std::string& path, Tensor masters) {
  std::vector<TensorToWrite> tensors;
  for (const NamedSlice& slice : file_names(model.config())) {
    TensorToWrite tensor;
    tensor.name = slice.name;
    tensor.shape = dimensions(slice.shape);
    tensor.fill = [&model, slice, masters](std::span<std::byte> bytes) {
      std::vector<float> values = download_floats(model.ops(), slice_of(model, slice, masters));
      if (slice.transposed) {
        values = transposed(values, slice.shape.columns(), slice.shape.rows());
      }
      std::memcpy(bytes.data(), values.data(), bytes.size());
    };
    tensors.push_back(std::move(tensor));
  }
  return write_safetensors(path, tensors);
}

}  // namespace normlab
