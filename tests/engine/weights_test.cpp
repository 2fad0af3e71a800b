#include "engine/weights.h"

#include <algorithm>
#include <cstring>

#include "catch.h"
#include "engine/safetensors.h"
#include "small_model.h"
#include "temporary_folder.h"

using namespace normlab;
using namespace normlab::test;

namespace {

std::vector<ModelConfig> variants() {
  std::vector<ModelConfig> all;
  for (const Family family : {Family::gpt2, Family::llama}) {
    for (const bool tied : {false, true}) {
      for (const NormKind kind : {NormKind::layernorm, NormKind::rmsnorm}) {
        ModelConfig config = small_config(family);
        config.tie_embeddings = tied;
        config.norm.kind = kind;
        all.push_back(config);
      }
    }
  }
  all.push_back(small_config(Family::llama));
  all.back().biases = Biases::qkv;
  return all;
}

using Tensors = std::vector<TensorToWrite>;

TensorToWrite constant(const std::string& name, const std::vector<int64_t>& shape, float value) {
  TensorToWrite tensor;
  tensor.name = name;
  tensor.shape = shape;
  tensor.fill = [value](std::span<std::byte> bytes) {
    for (size_t at = 0; at < bytes.size(); at += sizeof(value)) {
      std::memcpy(bytes.data() + at, &value, sizeof(value));
    }
  };
  return tensor;
}

// All tensors that the model's file must have, tensor i filled with i.
Tensors all_tensors(const ModelConfig& config) {
  Tensors tensors;
  for (const NamedSlice& slice : file_names(config)) {
    tensors.push_back(constant(
        slice.name, {slice.shape.extents.begin(), slice.shape.extents.begin() + slice.shape.rank},
        static_cast<float>(tensors.size())));
  }
  return tensors;
}

// The message of loading a file of these tensors; "" where it succeeds.
std::string complaint_about(const ModelConfig& config, const Tensors& tensors) {
  const TemporaryFolder folder;
  write_safetensors(folder.path() + "/model.safetensors", tensors);
  SmallModel small(config);
  try {
    load_weights(small.model, folder.path());
  } catch (const Error& error) {
    return (error.kind() == ErrorKind::input ? "" : "WRONG KIND: ") + std::string(error.what());
  }
  return "";
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("weights: what is written and loaded is the same model and the same bytes") {
  for (const ModelConfig& config : variants()) {
    const TemporaryFolder one, two;
    SmallModel written(config), loaded(config);
    loaded.model.initialize(99);
    REQUIRE(written.values() != loaded.values());
    const uint64_t hash = write_weights(written.model, one.path() + "/model.safetensors");
    load_weights(loaded.model, one.path());
    CHECK(written.values() == loaded.values());
    CHECK(write_weights(loaded.model, two.path() + "/model.safetensors") == hash);
    CHECK(hash_file(one.path() + "/model.safetensors") == hash);
  }
}

TEST_CASE("weights: GPT-2's products are transposed in the file") {
  const TemporaryFolder folder;
  SmallModel small(small_config(Family::gpt2));
  write_weights(small.model, folder.path() + "/model.safetensors");
  const SafetensorsFile file(folder.path() + "/model.safetensors");
  CHECK(file.tensors().at("transformer.h.1.mlp.c_fc.weight").shape == std::vector<int64_t>{16, 64});
  const std::vector<float> stored = file.read("transformer.h.1.mlp.c_fc.weight");
  const auto& parameters = small.model.parameters();
  std::vector<float> ours;
  for (const Parameter& parameter : parameters) {
    if (parameter.layer != 1 || !(parameter.value.shape == Shape{64, 16})) continue;
    ours = download_floats(*small.ops, parameter.value);
  }
  REQUIRE(ours.size() == stored.size());
  for (size_t row = 0; row < 64; ++row) {
    for (size_t column = 0; column < 16; ++column) {
      REQUIRE(ours[row * 16 + column] == stored[column * 64 + row]);
    }
  }
}

TEST_CASE("weights: names without the model's prefix are found") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    const ModelConfig config = small_config(family);
    Tensors tensors = all_tensors(config);
    const std::string prefix = family == Family::gpt2 ? "transformer." : "model.";
    for (TensorToWrite& tensor : tensors) {
      if (tensor.name.starts_with(prefix)) tensor.name.erase(0, prefix.size());
    }
    CHECK(complaint_about(config, tensors) == "");
  }
}

TEST_CASE("weights: buffers of older files are ignored") {
  Tensors tensors = all_tensors(small_config(Family::gpt2));
  tensors.push_back(constant("h.0.attn.bias", {1, 1, 12, 12}, 1));
  tensors.push_back(constant("transformer.h.1.attn.masked_bias", {1}, 1));
  CHECK(complaint_about(small_config(Family::gpt2), tensors) == "");
  Tensors llama = all_tensors(small_config(Family::llama));
  llama.push_back(constant("model.layers.0.self_attn.rotary_emb.inv_freq", {2}, 1));
  CHECK(complaint_about(small_config(Family::llama), llama) == "");
  // A bias of the other family is no buffer.
  llama.push_back(constant("model.layers.0.attn.bias", {2}, 1));
  CHECK(has(complaint_about(small_config(Family::llama), llama), "layers.0.attn.bias is not part"));
}

TEST_CASE("weights: a tied head in the file must be the embedding") {
  ModelConfig config = small_config(Family::llama);
  config.tie_embeddings = true;
  for (const std::string embedding : {"model.embed_tokens.weight", "embed_tokens.weight"}) {
    Tensors tensors = all_tensors(config);
    REQUIRE(tensors.front().name == "model.embed_tokens.weight");  // of zeros
    tensors.front().name = embedding;
    tensors.push_back(constant("lm_head.weight", {19, 16}, 0));
    CHECK(complaint_about(config, tensors) == "");
    TensorToWrite& head = tensors.back();
    head.fill = [](std::span<std::byte> bytes) { bytes.back() = std::byte{0x40}; };
    CHECK(has(complaint_about(config, tensors), "lm_head.weight is not the embedding"));
    CHECK(has(complaint_about(config, tensors), "Write \"tie_word_embeddings\": false there"));
    head = constant("lm_head.weight", {16, 19}, 0);
    CHECK(has(complaint_about(config, tensors), "lm_head.weight has shape [16, 19]"));
  }
}

TEST_CASE("weights: numbers stored in other types are the nearest floats, and back") {
  // By hand: 1 + 2⁻⁹ is halfway between two bfloats and a half; 2⁻²⁴ the smallest half.
  const std::vector<float> numbers = {1.001953125f, -0.0f, 5.9604644775390625e-8f, 65504, -2.5f};
  const std::vector<float> as_bf16 = {1, -0.0f, 5.9604644775390625e-8f, 65536, -2.5f};
  const ModelConfig config = small_config(Family::gpt2);
  SmallModel small(config), read(config);
  std::vector<float> values = small.values();
  std::copy(numbers.begin(), numbers.end(), values.begin());
  upload_floats(*small.ops, small.model.values(), values);
  for (const StoredType type : {StoredType::f16, StoredType::bf16, StoredType::f64}) {
    const TemporaryFolder folder;
    write_weights(small.model, folder.path() + "/model.safetensors", {}, type);
    const SafetensorsFile file(folder.path() + "/model.safetensors");
    for (const auto& [name, tensor] : file.tensors()) CHECK(tensor.type == type);
    load_weights(read.model, folder.path());
    const std::vector<float>& expected = type == StoredType::bf16 ? as_bf16 : numbers;
    for (size_t i = 0; i < numbers.size(); ++i) CHECK(read.values()[i] == expected[i]);
  }
}

TEST_CASE("weights: what fp16 cannot hold is refused with its tensor") {
  SmallModel small(small_config(Family::llama));
  std::vector<float> values = small.values();
  values.front() = 65520;
  upload_floats(*small.ops, small.model.values(), values);
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/model.safetensors";
  try {
    write_weights(small.model, path, {}, StoredType::f16);
    FAIL("an infinite weight was written");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    CHECK(has(error.what(), "cannot be written in fp16 (it has numbers beyond 65504)"));
    CHECK(has(error.what(), "model.safetensors: tensor lm_head.weight"));
  }
  values.front() = 65519;
  upload_floats(*small.ops, small.model.values(), values);
  CHECK_NOTHROW(write_weights(small.model, path, {}, StoredType::f16));
}

TEST_CASE("weights: a tensor larger than the parts it is read in arrives whole") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    ModelConfig config = small_config(family);
    config.layers = 1;
    config.width = 260;  // no multiple of the squares that are transposed at a time
    config.heads = config.kv_heads = 2;
    config.head_size = 130;
    config.feed_forward = 1040;
    config.vocabulary = 1100;
    const TemporaryFolder folder;
    SmallModel written(config), loaded(config);
    loaded.model.initialize(99);
    write_weights(written.model, folder.path() + "/model.safetensors");
    load_weights(loaded.model, folder.path());
    const bool same = written.values() == loaded.values();  // too many to be shown
    CHECK(same);
  }
}

TEST_CASE("weights: a missing, misshapen or unknown tensor is named") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    const ModelConfig config = small_config(family);
    for (size_t i = 0; i < all_tensors(config).size(); ++i) {
      Tensors missing = all_tensors(config);
      const std::string name = missing[i].name;
      INFO(name);
      missing.erase(missing.begin() + static_cast<ptrdiff_t>(i));
      CHECK(has(complaint_about(config, missing), name + " is missing"));
      CHECK(has(complaint_about(config, missing), "). Copy the file again"));
      Tensors misshapen = all_tensors(config);
      misshapen[i].shape.back() += 1;
      CHECK(has(complaint_about(config, misshapen), name + " has shape ["));
      CHECK(has(complaint_about(config, misshapen), "). Take the config.json"));
    }
    Tensors more = all_tensors(config);
    more.push_back(constant("score.weight", {2, 16}, 1));
    CHECK(has(complaint_about(config, more), "score.weight is not part of the model"));
    CHECK(has(complaint_about(config, more), "). Take the config.json"));
  }
}
