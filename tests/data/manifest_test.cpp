#include "data/manifest.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "catch.h"
#include "tests/data/temporary_directory.h"

namespace normlab {
namespace {

using namespace test;
using nlohmann::json;

Manifest padded_set() {
  Manifest manifest;
  manifest.tokenizer = "gpt2:.";
  manifest.tokenizer_hash = 0xFEDCBA9876543210;
  manifest.vocabulary = 50257;
  manifest.end_of_text = 50256;
  manifest.rows = RowLayout{8, 50256};
  manifest.shards = {{"train-00000.bin", 24, 3, 0x0123, 0xABC}, {"train-00001.bin", 8, 1, 5, 6}};
  return manifest;
}

const char* const kPaddedText = R"({
  "schema": 1,
  "tokenizer": "gpt2:.",
  "tokenizer_hash": "fedcba9876543210",
  "vocabulary": 50257,
  "end_of_text": 50256,
  "rows": {
    "length": 8,
    "pad": 50256
  },
  "tokens": 32,
  "documents": 4,
  "shards": [
    {
      "file": "train-00000.bin",
      "tokens": 24,
      "documents": 3,
      "checksum": "0000000000000123",
      "lengths_checksum": "0000000000000abc"
    },
    {
      "file": "train-00001.bin",
      "tokens": 8,
      "documents": 1,
      "checksum": "0000000000000005",
      "lengths_checksum": "0000000000000006"
    }
  ]
}
)";

void check_equal(const Manifest& a, const Manifest& b) {
  CHECK(a.tokenizer == b.tokenizer);
  CHECK(a.tokenizer_hash == b.tokenizer_hash);
  CHECK(a.vocabulary == b.vocabulary);
  CHECK(a.end_of_text == b.end_of_text);
  REQUIRE(a.rows.has_value() == b.rows.has_value());
  if (a.rows) CHECK((a.rows->length == b.rows->length && a.rows->pad == b.rows->pad));
  REQUIRE(a.shards.size() == b.shards.size());
  for (size_t i = 0; i < a.shards.size(); ++i) {
    CHECK(a.shards[i].file == b.shards[i].file);
    CHECK(a.shards[i].tokens == b.shards[i].tokens);
    CHECK(a.shards[i].documents == b.shards[i].documents);
    CHECK(a.shards[i].checksum == b.shards[i].checksum);
    CHECK(a.shards[i].lengths_checksum == b.shards[i].lengths_checksum);
  }
}

// What reading kPaddedText says after a change.
template <typename Change>
std::string complaint(Change change) {
  const TemporaryDirectory directory;
  json text = json::parse(kPaddedText);
  change(text);
  write_bytes(directory.file("manifest.json"), text.dump());
  const std::string message = input_error_of([&] { read_manifest(directory.path.string()); });
  if (message != "no error") CHECK(contains(message, directory.file("manifest.json") + ": "));
  return message;
}

}  // namespace

TEST_CASE("manifest: a padded set is written to the byte and read back") {
  const TemporaryDirectory directory;
  CHECK(!read_manifest(directory.path.string()));
  write_manifest(directory.path.string(), padded_set());
  CHECK(read_bytes(directory.file("manifest.json")) == kPaddedText);
  CHECK(std::distance(std::filesystem::directory_iterator(directory.path), {}) == 1);
  check_equal(read_manifest(directory.path.string()).value(), padded_set());
}

TEST_CASE("manifest: joined documents without tokenizer and end-of-text are read back") {
  const TemporaryDirectory directory;
  Manifest manifest = padded_set();
  manifest.rows.reset();
  manifest.tokenizer = "";
  manifest.end_of_text = -1;
  for (ManifestShard& shard : manifest.shards) shard.lengths_checksum = 0;
  write_manifest(directory.path.string(), manifest);
  const std::string text = read_bytes(directory.file("manifest.json"));
  CHECK(contains(text, "\"end_of_text\": null"));
  CHECK(!contains(text, "rows"));
  CHECK(!contains(text, "lengths"));
  check_equal(read_manifest(directory.path.string()).value(), manifest);
}

TEST_CASE("manifest: keys that are unknown are tolerated") {
  CHECK(complaint([](json& text) {
          text["made_by"] = {{"name", "someone"}};
          text["rows"]["colour"] = "blue";
          text["shards"][0]["bytes"] = 1072;
        }) == "no error");
}

TEST_CASE("manifest: what is missing or mistyped is named with its place") {
  for (const std::string key : {"schema", "tokenizer", "tokenizer_hash", "vocabulary",
                                "end_of_text", "shards", "tokens", "documents"}) {
    CHECK(contains(complaint([&](json& text) { text.erase(key); }), ": " + key + " is missing"));
    CHECK(contains(complaint([&](json& text) { text[key] = {{"a", 1}}; }), ": " + key + " is no"));
  }
  for (const std::string key : {"file", "tokens", "documents", "checksum", "lengths_checksum"}) {
    CHECK(contains(complaint([&](json& text) { text["shards"][1].erase(key); }),
                   ": shards[1]." + key + " is missing"));
    CHECK(contains(complaint([&](json& text) { text["shards"][1][key] = json::array(); }),
                   ": shards[1]." + key + " is no"));
  }
  for (const std::string key : {"length", "pad"}) {
    CHECK(contains(complaint([&](json& text) { text["rows"].erase(key); }),
                   ": rows." + key + " is missing"));
    CHECK(contains(complaint([&](json& text) { text["rows"][key] = 1.5; }),
                   ": rows." + key + " is not a whole number"));
  }
  CHECK(contains(complaint([](json& text) { text["rows"] = 8; }), "rows is not an object"));
  CHECK(
      contains(complaint([](json& text) { text["shards"][0] = 8; }), "shards[0] is not an object"));
  CHECK(
      contains(complaint([](json& text) { text = json::array(); }), "the whole is not an object"));
}

TEST_CASE("manifest: values that cannot be are refused") {
  const auto with = [](const char* pointer, const json& value) {
    return complaint([&](json& text) { text[json::json_pointer(pointer)] = value; });
  };
  CHECK(contains(with("/schema", 2), "schema = 2 is not 1"));
  CHECK(contains(with("/vocabulary", 0), "vocabulary = 0 lies outside 1 to 65536"));
  CHECK(contains(with("/vocabulary", 65537), "vocabulary = 65537 lies outside"));
  CHECK(contains(with("/vocabulary", uint64_t{0xFFFFFFFFFFFFFFFF}), "lies outside"));
  CHECK(contains(with("/end_of_text", 50257), "end_of_text = 50257 lies outside 0 to 50256"));
  CHECK(contains(with("/end_of_text", -1), "end_of_text = -1 lies outside"));
  CHECK(contains(with("/rows/pad", 50257), "rows.pad = 50257 lies outside"));
  CHECK(contains(with("/rows/length", 0), "rows.length = 0 lies outside"));
  CHECK(contains(with("/shards/0/tokens", 0), "shards[0].tokens = 0 lies outside"));
  CHECK(contains(with("/shards/0/tokens", 23), "is not its 3 documents times 8"));
  CHECK(contains(with("/shards/0/tokens", int64_t{1} << 31), "shards[0].tokens = 2147483648"));
  CHECK(contains(with("/shards/0/documents", -1), "shards[0].documents = -1 lies outside"));
  CHECK(contains(with("/shards/0/documents", 0x7FFFFFFF), "documents times 8"));
  CHECK(contains(with("/shards/0/checksum", "123"), "is not a hash of 16 hexadecimal digits"));
  CHECK(contains(with("/tokenizer_hash", "0x23456789abcdef"), "is not a hash"));
  for (const char* name : {"", ".", "..", "../a.bin", "/a.bin"}) {
    CHECK(contains(with("/shards/0/file", name), "is not the name of a file beside"));
  }
  CHECK(contains(with("/shards/0/file", "train-00001.bin"),
                 "shards[1].file = \"train-00001.bin\" is listed twice"));
  CHECK(contains(with("/tokens", 33), "tokens = 33 is not the shards' sum, 32"));
  CHECK(contains(with("/documents", 5), "documents = 5 is not the shards' sum, 4"));
}

TEST_CASE("manifest: a file that is no JSON, cut off, empty or a directory is an input error") {
  const TemporaryDirectory directory;
  const std::string file = directory.file("manifest.json");
  const auto read = [&] { read_manifest(directory.path.string()); };
  for (const std::string& text : {std::string(), std::string(kPaddedText, 60),
                                  std::string("\xFF\xFE"), std::string(100000, '[')}) {
    write_bytes(file, text);
    CHECK(contains(input_error_of(read), file + ": is not JSON"));
  }
  std::filesystem::remove(file);
  std::filesystem::create_directory(file);
  CHECK(contains(input_error_of(read), file + ": cannot be read"));
}

TEST_CASE("manifest: a tokenizer's path counts from the manifest's folder") {
  const std::string here = std::filesystem::current_path().string();
  Manifest manifest;
  const auto named = [&](const std::string& name, const std::string& directory) {
    manifest.tokenizer = name;
    return tokenizer_of(manifest, directory);
  };
  CHECK(named("", "/sets/a") == "");
  CHECK(named("bytes", "/sets/a") == "bytes");
  CHECK(named("gpt2:.", "/sets/a") == "gpt2:/sets/a");
  CHECK(named("gpt2:.", "/sets/a/") == "gpt2:/sets/a");
  CHECK(named("gpt2:../t", "/sets/a") == "gpt2:/sets/t");
  CHECK(named("gpt2:/t", "/sets/a") == "gpt2:/t");
  CHECK(named("sentencepiece:tokenizer.model", "sets") ==
        "sentencepiece:" + here + "/sets/tokenizer.model");
  CHECK(named("sentencepiece:a.model", "") == "sentencepiece:" + here + "/a.model");
}

}  // namespace normlab
