// Weights in several files: what the index says and what the files hold must agree.
#include "engine/safetensors_set.h"

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "small_model.h"
#include "temporary_folder.h"

using namespace normlab;
using namespace normlab::test;
using nlohmann::json;

namespace {

TensorToWrite two_numbers(const std::string& name, float value) {
  return {name, StoredType::f32, {2}, [value](std::span<std::byte> bytes) {
            const float numbers[] = {value, -value};
            std::memcpy(bytes.data(), numbers, sizeof(numbers));
          }};
}

// Two files a.safetensors {one, two} and b.safetensors {three}, and an index of them.
class Shards {
 public:
  Shards() {
    write_safetensors(path("a.safetensors"), {two_numbers("one", 1), two_numbers("two", 2)});
    write_safetensors(path("b.safetensors"), {two_numbers("three", 3)});
    index_["metadata"] = {{"total_size", 24}};
    index_["weight_map"] = {
        {"one", "a.safetensors"}, {"two", "a.safetensors"}, {"three", "b.safetensors"}};
  }

  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  const std::string directory() const { return folder_.path(); }
  json& map() { return index_["weight_map"]; }
  // The message of opening them; "" where they open.
  std::string complaint() { return complaint_about(index_.dump()); }
  std::string complaint_about(const std::string& index) {
    folder_.write("model.safetensors.index.json", index);
    try {
      SafetensorsSet set(folder_.path());
    } catch (const Error& error) {
      return (error.kind() == ErrorKind::input ? "" : "WRONG KIND: ") + std::string(error.what());
    }
    return "";
  }

 private:
  TemporaryFolder folder_;
  json index_;
};

bool has(const std::string& text, const std::string& part) {
  INFO(text);
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

}  // namespace

TEST_CASE("safetensors set: the tensors of all files are found, with or without metadata") {
  Shards shards;
  REQUIRE(shards.complaint() == "");
  const SafetensorsSet set(shards.directory());
  CHECK(set.names() == std::vector<std::string>{"one", "three", "two"});
  CHECK(set.contains("two"));
  CHECK_FALSE(set.contains("four"));
  CHECK(set.file_of("three").read("three") == std::vector<float>{3, -3});
  CHECK(set.tensor("one").shape == std::vector<int64_t>{2});
  CHECK(set.path() == shards.path("model.safetensors.index.json"));
  CHECK_THROWS_AS(set.file_of("four"), Error);
  CHECK(shards.complaint_about(json{{"weight_map", shards.map()}}.dump()) == "");
}

TEST_CASE("safetensors set: a single file is taken before an index") {
  Shards shards;
  write_safetensors(shards.path("model.safetensors"), {two_numbers("only", 1)});
  CHECK(shards.complaint_about("damaged") == "");
  CHECK(SafetensorsSet(shards.directory()).names() == std::vector<std::string>{"only"});
}

TEST_CASE("safetensors set: files that do not hold what the index says are named") {
  SECTION("a file that is missing") {
    Shards shards;
    std::filesystem::remove(shards.path("b.safetensors"));
    has(shards.complaint(), "index.json: the file b.safetensors is missing (tensor three should");
  }
  SECTION("a file that is cut short") {
    Shards shards;
    std::filesystem::resize_file(shards.path("b.safetensors"), 50);
    has(shards.complaint(), "b.safetensors: no valid safetensors file");
  }
  SECTION("a tensor that is missing") {
    Shards shards;
    shards.map()["four"] = "b.safetensors";
    has(shards.complaint(), "tensor four is not in b.safetensors (as the index says it is)");
  }
  SECTION("a tensor in another file") {
    Shards shards;
    shards.map()["two"] = "b.safetensors";
    has(shards.complaint(), "tensor two lies in a.safetensors (the index says b.safetensors)");
  }
  SECTION("a tensor in two files") {
    Shards shards;
    write_safetensors(shards.path("b.safetensors"),
                      {two_numbers("three", 3), two_numbers("one", 4)});
    has(shards.complaint(), "tensor one lies in b.safetensors (the index says a.safetensors)");
  }
  SECTION("a tensor that the index does not name") {
    Shards shards;
    shards.map().erase("two");
    has(shards.complaint(), "tensor two lies in a.safetensors (the index does not name it)");
  }
}

TEST_CASE("safetensors set: an index that is none says so") {
  Shards shards;
  for (const char* text : {"", "{", "[]", "{}", "3", R"({"weight_map":3})", R"({"weight_map":{}})",
                           "{\"weight_map\":{\"\xff\":1}}"}) {
    INFO(text);
    has(shards.complaint_about(text), "index.json: no index of weights (");
  }
  has(shards.complaint_about("{\"weight_map\":" + std::string(1'000'000, '[')),
      "is not JSON that is meant (it nests deeper");
  for (const json& file : {json(3), json(""), json("../a.safetensors"), json("/etc/passwd"),
                           json(std::string("a\0b", 3)), json(nullptr)}) {
    shards.map()["one"] = file;
    has(shards.complaint(), "tensor one lies in " + file.dump() + " (not the name of a file");
  }
}

TEST_CASE("safetensors set: a directory without weights says what is there instead") {
  const TemporaryFolder folder;
  const auto complaint = [&] {
    try {
      SafetensorsSet set(folder.path());
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  has(complaint(), "has no weights (neither model.safetensors nor");
  folder.write("pytorch_model.bin", "x");
  has(complaint(), "(pytorch_model.bin). Convert them with transformers");
}

TEST_CASE("weights: a model loads from several files, and errors name the index") {
  const ModelConfig config = small_config(Family::gpt2);
  const TemporaryFolder one, many;
  SmallModel written(config), loaded(config);
  loaded.model.initialize(99);
  write_weights(written.model, one.path() + "/model.safetensors");
  const SafetensorsFile whole(one.path() + "/model.safetensors");
  std::map<std::string, std::vector<TensorToWrite>> files;
  json index;
  for (const auto& [name, tensor] : whole.tensors()) {
    const std::string file = "part-" + std::to_string(index["weight_map"].size() % 3);
    files[file].push_back({name, tensor.type, tensor.shape, [&, name](std::span<std::byte> bytes) {
                             std::memcpy(bytes.data(), whole.bytes(name).data(), bytes.size());
                           }});
    index["weight_map"][name] = file;
  }
  for (const auto& [file, tensors] : files) write_safetensors(many.path() + "/" + file, tensors);
  many.write("model.safetensors.index.json", index.dump());
  load_weights(loaded.model, many.path());
  CHECK(written.values() == loaded.values());

  ModelConfig deeper = config;
  deeper.layers = 3;
  SmallModel other(deeper);
  try {
    load_weights(other.model, many.path());
    FAIL("a model with a layer too few was loaded");
  } catch (const Error& error) {
    has(error.what(),
        "model.safetensors.index.json: tensor transformer.h.2.ln_1.weight is missing");
  }
}
