#include "data/set_writer.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "catch.h"
#include "tests/data/temporary_directory.h"

namespace normlab {
namespace {

using test::contains;
using test::input_error_of;
using test::read_bytes;
using test::TemporaryDirectory;
using Ids = std::vector<uint16_t>;

const std::unique_ptr<Tokenizer> kBytes = make_tokenizer("bytes");
constexpr uint16_t kEnd = 256;

// A tokenizer with files and without an end-of-text.
class FileTokenizer final : public Tokenizer {
 public:
  FileTokenizer(std::string name, std::vector<std::string> files)
      : name_(std::move(name)), files_(std::move(files)) {}
  Ids encode(std::string_view) const override { return {}; }
  std::string decode(const Ids&) const override { return {}; }
  int64_t vocabulary() const override { return 1000; }
  int32_t end_of_text() const override { return -1; }
  std::string name() const override { return name_; }
  uint64_t hash() const override { return 42; }
  std::vector<std::string> files() const override { return files_; }

 private:
  std::string name_;
  std::vector<std::string> files_;
};

// The tokens of a shard, whose header is looked at byte by byte.
Ids tokens_of(const std::string& file) {
  const std::string bytes = read_bytes(file);
  REQUIRE(bytes.size() >= 1024);
  int32_t header[256];
  std::memcpy(header, bytes.data(), sizeof(header));
  CHECK(header[0] == 20240520);
  CHECK(header[1] == 1);
  CHECK(std::all_of(header + 3, header + 256, [](int32_t word) { return word == 0; }));
  Ids tokens((bytes.size() - 1024) / 2);
  std::memcpy(tokens.data(), bytes.data() + 1024, bytes.size() - 1024);
  CHECK(header[2] == static_cast<int32_t>(tokens.size()));
  return tokens;
}

std::vector<uint32_t> lengths_of(const std::string& file) {
  const std::string bytes = read_bytes(file + ".lengths");
  std::vector<uint32_t> lengths(bytes.size() / 4);
  std::memcpy(lengths.data(), bytes.data(), bytes.size());
  return lengths;
}

// Document i is i alone.
Manifest write_numbers(const TemporaryDirectory& directory, const SetOptions& options,
                       uint16_t count) {
  SetWriter writer(directory.path.string(), options, *kBytes);
  for (uint16_t i = 0; i < count; ++i) writer.add({i});
  return writer.finish();
}

// The documents of all shards of a name, in their order.
Ids numbers_in(const TemporaryDirectory& directory, const Manifest& manifest,
               const std::string& name) {
  Ids numbers;
  for (const ManifestShard& shard : manifest.shards) {
    if (!shard.file.starts_with(name)) continue;
    for (const uint16_t token : tokens_of(directory.file(shard.file))) {
      if (token != kEnd) numbers.push_back(token);
    }
  }
  return numbers;
}

TEST_CASE("set_writer: documents stand one after another, each ended by end-of-text") {
  const TemporaryDirectory directory;
  SetWriter writer(directory.path.string(), {}, *kBytes);
  writer.add({1, 2, 3});
  writer.add({});
  writer.add({4});
  const Manifest manifest = writer.finish();
  CHECK(tokens_of(directory.file("train-00000.bin")) == Ids{1, 2, 3, kEnd, kEnd, 4, kEnd});
  CHECK(writer.empty_documents() == 0);
  CHECK(manifest.tokenizer == "bytes");
  CHECK(manifest.tokenizer_hash == kBytes->hash());
  CHECK(manifest.vocabulary == 257);
  CHECK(manifest.end_of_text == kEnd);
  CHECK(!manifest.rows.has_value());
  REQUIRE(manifest.shards.size() == 1);
  CHECK(manifest.tokens() == 7);
  CHECK(manifest.documents() == 3);
  const std::string shard = read_bytes(directory.file("train-00000.bin"));
  CHECK(manifest.shards[0].checksum == XXH3_64bits(shard.data(), shard.size()));
  const auto read = read_manifest(directory.path.string());
  REQUIRE(read.has_value());
  CHECK(read->shards[0].checksum == manifest.shards[0].checksum);
}

TEST_CASE("set_writer: a shard ends at a document's end and holds no more than it may") {
  const TemporaryDirectory directory;
  SetOptions options;
  options.shard_tokens = 6;
  SetWriter writer(directory.path.string(), options, *kBytes);
  for (const uint16_t size : {2, 2, 1, 9, 1, 1, 1}) writer.add(Ids(size, size));
  const Manifest manifest = writer.finish();
  std::vector<int64_t> tokens, documents;
  for (const ManifestShard& shard : manifest.shards) {
    tokens.push_back(shard.tokens);
    documents.push_back(shard.documents);
    CHECK(tokens_of(directory.file(shard.file)).size() == static_cast<size_t>(shard.tokens));
    CHECK(tokens_of(directory.file(shard.file)).back() == kEnd);
  }
  CHECK(tokens == std::vector<int64_t>{6, 2, 10, 6});
  CHECK(documents == std::vector<int64_t>{2, 1, 1, 3});
  CHECK(manifest.shards.back().file == "train-00003.bin");
}

TEST_CASE("set_writer: shards longer than what is written at a time are whole") {
  const TemporaryDirectory directory;
  SetWriter writer(directory.path.string(), {}, *kBytes);
  Ids all;
  for (int i = 0; i < 3000; ++i) {
    const Ids document(static_cast<size_t>(i % 997), static_cast<uint16_t>(i % 256));
    all.insert(all.end(), document.begin(), document.end());
    all.push_back(kEnd);
    writer.add(document);
  }
  writer.finish();
  CHECK((tokens_of(directory.file("train-00000.bin")) == all));  // not to be printed
}

TEST_CASE("set_writer: rows are cut or filled up and their lengths stand beside") {
  const TemporaryDirectory directory;
  SetOptions options;
  options.row_length = 4;
  options.shard_tokens = 10;
  SetWriter writer(directory.path.string(), options, *kBytes);
  writer.add({1, 2});
  writer.add({});
  writer.add({1, 2, 3, 4, 5, 6});
  writer.add({7, 8, 9});
  const Manifest manifest = writer.finish();
  CHECK(tokens_of(directory.file("train-00000.bin")) == Ids{1, 2, kEnd, kEnd, 1, 2, 3, 4});
  CHECK(tokens_of(directory.file("train-00001.bin")) == Ids{7, 8, 9, kEnd});
  CHECK(lengths_of(directory.file("train-00000.bin")) == std::vector<uint32_t>{3, 4});
  CHECK(lengths_of(directory.file("train-00001.bin")) == std::vector<uint32_t>{4});
  CHECK(writer.empty_documents() == 1);
  CHECK(writer.train().tokens() == 11);
  CHECK(writer.train().discarded_tokens() == 3);  // 5, 6 and the end-of-text
  REQUIRE(manifest.rows.has_value());
  CHECK(manifest.rows->length == 4);
  CHECK(manifest.rows->pad == kEnd);
  CHECK(manifest.tokens() == 12);
  const std::string lengths = read_bytes(directory.file("train-00000.bin.lengths"));
  CHECK(manifest.shards[0].lengths_checksum == XXH3_64bits(lengths.data(), lengths.size()));
  CHECK(read_manifest(directory.path.string()).has_value());
}

TEST_CASE(
    "set_writer: without an end-of-text nothing is put behind documents, rows are padded "
    "with 0") {
  const FileTokenizer tokenizer("none", {});
  const TemporaryDirectory directory;
  SetWriter writer(directory.path.string(), {}, tokenizer);
  writer.add({5});
  writer.add({});
  writer.add({6});
  CHECK(writer.finish().end_of_text == -1);
  CHECK(writer.empty_documents() == 1);
  CHECK(tokens_of(directory.file("train-00000.bin")) == Ids{5, 6});

  const TemporaryDirectory of_rows;
  SetOptions options;
  options.row_length = 3;
  SetWriter rows(of_rows.path.string(), options, tokenizer);
  rows.add({5});
  CHECK(rows.finish().rows->pad == 0);
  CHECK(tokens_of(of_rows.file("train-00000.bin")) == Ids{5, 0, 0});
}

TEST_CASE("set_writer: ids that came as they are get no end-of-text") {
  const TemporaryDirectory directory;
  SetOptions options;
  options.end = DocumentEnd::none;
  SetWriter writer(directory.path.string(), options, *kBytes);
  writer.add({1, kEnd, 2});
  writer.add({3});
  CHECK(writer.finish().end_of_text == kEnd);
  CHECK(tokens_of(directory.file("train-00000.bin")) == Ids{1, kEnd, 2, 3});
}

TEST_CASE("set_writer: a fraction of the documents is for validation, a function of the seed") {
  SetOptions options;
  options.validation_fraction = 0.25;
  constexpr uint16_t kCount = 250;
  const TemporaryDirectory first, second, other;
  const Manifest manifest = write_numbers(first, options, kCount);
  const Ids train = numbers_in(first, manifest, "train");
  const Ids validation = numbers_in(first, manifest, "val");
  CHECK(train.size() + validation.size() == kCount);
  CHECK(std::is_sorted(train.begin(), train.end()));
  CHECK(std::is_sorted(validation.begin(), validation.end()));
  std::set<uint16_t> all(train.begin(), train.end());
  all.insert(validation.begin(), validation.end());
  CHECK(all.size() == kCount);
  // The mean is 62.5, four standard deviations 27.4.
  CHECK(validation.size() > 35);
  CHECK(validation.size() < 90);
  CHECK(numbers_in(second, write_numbers(second, options, kCount), "val") == validation);
  options.seed = 7;
  CHECK(numbers_in(other, write_numbers(other, options, kCount), "val") != validation);
}

TEST_CASE("set_writer: so many documents for validation, each equally likely") {
  SetOptions options;
  options.validation_documents = 5;
  constexpr uint16_t kCount = 20;
  std::vector<int> drawn(kCount, 0);
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const TemporaryDirectory directory;
    options.seed = seed;
    const Manifest manifest = write_numbers(directory, options, kCount);
    const Ids validation = numbers_in(directory, manifest, "val");
    REQUIRE(validation.size() == 5);
    CHECK(std::is_sorted(validation.begin(), validation.end()));
    Ids all = numbers_in(directory, manifest, "train");
    REQUIRE(all.size() == kCount - 5);
    all.insert(all.end(), validation.begin(), validation.end());
    CHECK(std::set<uint16_t>(all.begin(), all.end()).size() == kCount);
    for (const uint16_t number : validation) ++drawn[number];
  }
  // Each 25 times in the mean, with a standard deviation of 4.3.
  CHECK(*std::min_element(drawn.begin(), drawn.end()) > 25 - 4.5 * 4.3);
  CHECK(*std::max_element(drawn.begin(), drawn.end()) < 25 + 4.5 * 4.3);
}

TEST_CASE("set_writer: a set without training, or without the validation asked for, is an error") {
  const auto error_of = [](const SetOptions& options, uint16_t count) {
    const TemporaryDirectory directory;
    return input_error_of([&] { write_numbers(directory, options, count); });
  };
  SetOptions options;
  CHECK(contains(error_of(options, 0), "of 0 documents"));
  options.validation_documents = 3;
  CHECK(contains(error_of(options, 3), "of 3 documents 3 are for validation and 0 for training"));
  CHECK(error_of(options, 4) == "no error");
  options = {};
  options.validation_fraction = 1e-9;
  CHECK(contains(error_of(options, 3), "of 3 documents 0 are for validation"));
  options.validation_fraction = 1;  // asks for no training part
  CHECK(contains(error_of(options, 0), "of 0 documents 0 are for validation"));
  CHECK(error_of(options, 3) == "no error");
  options.validation_fraction = 1.01;
  CHECK(contains(error_of(options, 3), "--validation-fraction"));
  options.validation_fraction = 0.5;
  options.validation_documents = 1;
  CHECK(contains(error_of(options, 3), "--validation-documents"));
}

TEST_CASE("set_writer: the tokenizer's files come along, so that the set can be moved") {
  const TemporaryDirectory source, gpt2, sentencepiece;
  test::write_bytes(source.file("vocab.json"), "{}");
  test::write_bytes(source.file("merges.txt"), "#version");
  const auto manifest_of = [](const TemporaryDirectory& directory, const Tokenizer& tokenizer) {
    SetWriter writer(directory.path.string(), {}, tokenizer);
    writer.add({1});
    return writer.finish();
  };
  const FileTokenizer bpe("gpt2:" + source.path.string(),
                          {source.file("vocab.json"), source.file("merges.txt")});
  CHECK(manifest_of(gpt2, bpe).tokenizer == "gpt2:.");
  CHECK(read_bytes(gpt2.file("vocab.json")) == "{}");
  CHECK(read_bytes(gpt2.file("merges.txt")) == "#version");
  test::write_bytes(source.file("mine.model"), std::string("\0\n", 2));
  const FileTokenizer model("sentencepiece:" + source.file("mine.model"),
                            {source.file("mine.model")});
  CHECK(manifest_of(sentencepiece, model).tokenizer == "sentencepiece:tokenizer.model");
  CHECK(read_bytes(sentencepiece.file("tokenizer.model")) == std::string("\0\n", 2));
}

}  // namespace
}  // namespace normlab
