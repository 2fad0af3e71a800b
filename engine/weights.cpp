#include "engine/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>

#include "engine/ln_free.h"
#include "engine/safetensors_set.h"
#include "engine/stored_numbers.h"
#include "kernels/bfloat16.h"

namespace normlab {
namespace {

// Numbers that are read at a time.
constexpr int64_t kPart = int64_t{1} << 18;

// `to` (columns, rows), whose rows lie `stride` apart, from `from` (rows, columns); in blocks that
// fit the processor's cache: what is read is a cache line wide, what is written lies together.
void turn(std::span<float> to, std::span<const float> from, int64_t rows, int64_t columns,
          int64_t stride) {
  constexpr int64_t kRows = 32, kColumns = 16;
  for (int64_t top = 0; top < rows; top += kRows) {
    for (int64_t left = 0; left < columns; left += kColumns) {
      for (int64_t column = left; column < std::min(left + kColumns, columns); ++column) {
        for (int64_t row = top; row < std::min(top + kRows, rows); ++row) {
          to[static_cast<size_t>(column * stride + row)] =
              from[static_cast<size_t>(row * columns + column)];
        }
      }
    }
  }
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
  return slice.of(masters ? parameter.part_of(masters) : parameter.value);
}

// The name under which the files hold a tensor: its own, or without the model's prefix.
std::string name_in(const SafetensorsSet& files, const std::string& name) {
  for (const char* prefix : {"transformer.", "model."}) {
    if (!files.contains(name) && name.starts_with(prefix)) {
      return name.substr(std::strlen(prefix));
    }
  }
  return name;
}

// Buffers that older versions of transformers saved: masks and rates that follow from the
// configuration.
bool known_buffer(const std::string& name, Family family) {
  switch (family) {
    case Family::gpt2:
      return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
    case Family::llama:
      return name.ends_with("rotary_emb.inv_freq");
  }
  return false;
}

void check_shape(const SafetensorsSet& files, const std::string& name, const Shape& expected) {
  const std::vector<int64_t>& shape = files.tensor(name).shape;
  if (shape == dimensions(expected)) return;
  throw input_error(files.path() + ": tensor " + name + " has shape " + text_of(shape) +
                    " (config.json asks for " + text_of(dimensions(expected)) +
                    "). Take the config.json that belongs to it");
}

// transformers takes the head of the file where it is not the embedding, whatever the
// configuration says of ties; here it is never taken for something else than it is.
void check_tied_head(const SafetensorsSet& files, const std::string& embedding, Shape shape) {
  const std::string head = "lm_head.weight";
  check_shape(files, head, shape);
  std::vector<float> one, other;
  for (int64_t first = 0; first < shape.elements(); first += kPart) {
    one.resize(static_cast<size_t>(std::min(kPart, shape.elements() - first)));
    other.resize(one.size());
    files.file_of(head).read(one, head, first);
    files.file_of(embedding).read(other, embedding, first);
    if (std::memcmp(one.data(), other.data(), one.size() * sizeof(float)) == 0) continue;
    throw input_error(files.path() + ": tensor " + head +
                      " is not the embedding (config.json says that they are tied). Write "
                      "\"tie_word_embeddings\": false there to use the head of the file");
  }
}

// Checks all before anything is loaded.
void check_tensors(const SafetensorsSet& files, const ModelConfig& config) {
  std::set<std::string> used;
  const std::vector<NamedSlice> slices = file_names(config);
  for (const NamedSlice& slice : slices) {
    const std::string name = name_in(files, slice.name);
    if (!files.contains(name)) {
      throw input_error(files.path() + ": tensor " + slice.name +
                        " is missing (config.json asks for it). Copy the file again, or take the " +
                        "config.json that belongs to it");
    }
    check_shape(files, name, slice.shape);
    used.insert(name);
  }
  for (const std::string& name : files.names()) {
    if (used.contains(name) || known_buffer(name, config.family)) continue;
    if (config.tie_embeddings && name == "lm_head.weight") {
      // The embedding comes first in every family's names.
      check_tied_head(files, name_in(files, slices.front().name), slices.front().shape);
      continue;
    }
    throw input_error(files.path() + ": tensor " + name +
                      " is not part of the model that config.json describes (it would be left "
                      "out). Take the config.json that belongs to it");
  }
}

// A matrix that the file holds transposed is turned part by part into memory of its size (of the
// smallest GPT-2 a fiftieth, of the larger ones less), all else goes through one part. `factor`
// multiplies what the file holds.
void load_tensor(Ops& ops, Tensor target, const SafetensorsFile& file, const NamedSlice& slice,
                 const std::string& name, double factor) {
  const Shape& stored = slice.shape;
  const int64_t step = std::max<int64_t>(kPart / stored.columns(), 1);
  std::vector<float> part, turned(static_cast<size_t>(slice.transposed ? stored.elements() : 0));
  for (int64_t first = 0; first < stored.rows(); first += step) {
    const int64_t count = std::min(step, stored.rows() - first);
    part.resize(static_cast<size_t>(count * stored.columns()));
    file.read(part, name, first * stored.columns());
    if (factor != 1) {
      for (float& number : part) number = static_cast<float>(factor * number);
    }
    if (slice.transposed) {
      turn(std::span(turned).subspan(static_cast<size_t>(first)), part, count, stored.columns(),
           stored.rows());
    } else {
      upload_floats(ops, target.row_slice(first, count), part);
    }
  }
  if (slice.transposed) upload_floats(ops, target, turned);
}

void check_range(const std::string& path, const std::string& name, std::span<const float> numbers,
                 StoredType type) {
  if (type != StoredType::f16) return;
  constexpr float kBeyond = 65520;  // rounds to infinity
  if (std::none_of(numbers.begin(), numbers.end(),
                   [](float x) { return std::isfinite(x) && std::abs(x) >= kBeyond; })) {
    return;
  }
  throw input_error(path + ": tensor " + name +
                    " cannot be written in fp16 (it has numbers beyond 65504). Use bf16 or fp32");
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
  const SafetensorsSet files(directory);
  check_tensors(files, model.config());
  // Weights alone, without a config.json, are as they are.
  ModelDescription description;
  if (std::filesystem::exists(directory + "/config.json")) {
    description = read_config_json(directory);
  }
  const bool ln_free = description.form == ModelForm::ln_free;
  std::vector<double> factors(model.parameters().size(), 1);
  if (ln_free) {
    factors = ln_free_factors(model, description.norms, description.ln_free_scale);
  }
  for (const NamedSlice& slice : file_names(model.config())) {
    const std::string name = name_in(files, slice.name);
    load_tensor(model.ops(), slice_of(model, slice, masters), files.file_of(name), slice, name,
                factors[static_cast<size_t>(slice.parameter)]);
  }
  if (ln_free) restore_values(model, description.norms, masters);
  if (masters) model.ops().round_weights(model.values(), masters);
}

uint64_t write_weights(const Model& model, const std::string& path, Tensor masters,
                       StoredType type) {
  std::vector<TensorToWrite> tensors;
  for (const NamedSlice& slice : file_names(model.config())) {
    TensorToWrite tensor;
    tensor.name = slice.name;
    tensor.type = type;
    tensor.shape = dimensions(slice.shape);
    tensor.fill = [&model, slice, masters, path, type](std::span<std::byte> bytes) {
      std::vector<float> values = download_floats(model.ops(), slice_of(model, slice, masters));
      if (slice.transposed) {
        std::vector<float> turned(values.size());
        turn(turned, values, slice.shape.columns(), slice.shape.rows(), slice.shape.columns());
        values.swap(turned);
      }
      check_range(path, slice.name, values, type);
      write_numbers(bytes, values, type);
    };
    tensors.push_back(std::move(tensor));
  }
  return write_safetensors(path, tensors);
}

}  // namespace normlab
