#include <filesystem>

#include "engine/safetensors.h"
#include "engine/weights.h"
#include "kernels/ops.h"
#include "tests/fuzz/format.h"

namespace normlab::fuzz {
namespace {

ModelConfig smallest_model() {
  ModelConfig config = gpt2_defaults();
  config.layers = 1;
  config.width = config.head_size = 4;
  config.heads = config.kv_heads = 1;
  config.feed_forward = 8;
  config.vocabulary = 5;
  config.context = 3;
  return config;
}

std::string weights_file(const std::string& path) {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  Model model(*ops, smallest_model(), {1, 3});
  model.initialize(1);
  write_weights(model, path);
  return read_bytes(path);
}

TensorToWrite filled(const std::string& name, StoredType type, const std::vector<int64_t>& shape) {
  return {name, type, shape, [](std::span<std::byte> bytes) {
            for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 37);
          }};
}

// Every type, a number without dimensions and a tensor of nothing.
std::string file_of_types(const std::string& path) {
  write_safetensors(
      path,
      {filled("float", StoredType::f32, {2, 3}), filled("double", StoredType::f64, {2}),
       filled("brain", StoredType::bf16, {4, 1}), filled("half", StoredType::f16, {}),
       filled("long", StoredType::i64, {1}), filled("int", StoredType::i32, {2}),
       filled("none", StoredType::f32, {0, 3})},
      {{"of", "every type"}});
  return read_bytes(path);
}

}  // namespace

Format safetensors_format(const std::string& folder) {
  const std::string path = folder + "/model.safetensors";
  Format format;
  format.files = {weights_file(path), file_of_types(path)};
  format.tokens = {"\"F32\"",
                   "\"F64\"",
                   "\"BF16\"",
                   "\"F16\"",
                   "\"I64\"",
                   "\"U8\"",
                   "\"BOOL\"",
                   "\"F8_E4M3\"",
                   "\"dtype\"",
                   "\"shape\"",
                   "\"data_offsets\"",
                   "\"__metadata__\"",
                   "[",
                   "]",
                   "{",
                   "}",
                   ",",
                   ":",
                   "\"",
                   "\\u0000",
                   "-",
                   "[0,0]",
                   "null",
                   "transformer.wte.weight"};
  format.read = [path, folder](const std::string& bytes) {
    write_bytes(path, bytes);
    {
      const SafetensorsFile file(path);
      for (const auto& [name, tensor] : file.tensors()) {
        file.bytes(name);
        switch (tensor.type) {
          case StoredType::f32:
          case StoredType::f64:
          case StoredType::bf16:
          case StoredType::f16:
            file.read(name);
            break;
          case StoredType::i64:
          case StoredType::i32:
          case StoredType::other:
            break;
        }
      }
    }
    const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
    Model model(*ops, smallest_model(), {1, 3});
    load_weights(model, folder);
  };
  return format;
}

}  // namespace normlab::fuzz
