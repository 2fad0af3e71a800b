#include "engine/safetensors_set.h"
#include "tests/fuzz/format.h"

namespace normlab::fuzz {
namespace {

TensorToWrite zeros(const std::string& name) {
  return {name, StoredType::f32, {2, 3}, [](std::span<std::byte> bytes) {
            for (std::byte& byte : bytes) byte = std::byte{0};
          }};
}

}  // namespace

Format safetensors_index_format(const std::string& folder) {
  write_safetensors(folder + "/one.safetensors", {zeros("a"), zeros("b")});
  write_safetensors(folder + "/two.safetensors", {zeros("c")});
  Format format;
  format.files = {
      "{\"metadata\": {\"total_size\": 72}, \"weight_map\": {\"a\": \"one.safetensors\", \"b\": "
      "\"one.safetensors\", \"c\": \"two.safetensors\"}}\n",
      "{\"weight_map\": {\"a\": " + std::string(20000, '[') + std::string(20000, ']') + "}}"};
  format.files.push_back(format.files.front());
  format.tokens = {"\"weight_map\"",
                   "\"metadata\"",
                   "one",
                   "two",
                   ".safetensors",
                   "../",
                   "/",
                   "null",
                   "true",
                   "{",
                   "}",
                   "[",
                   "]",
                   ",",
                   ":",
                   "\"",
                   "\\u0000",
                   "\"a\"",
                   "\"c\"",
                   "model"};
  format.read = [folder](const std::string& bytes) {
    write_bytes(folder + "/model.safetensors.index.json", bytes);
    const SafetensorsSet set(folder);
    for (const std::string& name : set.names()) set.file_of(name).read(name);
  };
  return format;
}

}  // namespace normlab::fuzz
