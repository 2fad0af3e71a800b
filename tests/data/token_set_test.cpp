// Sets of shards with a manifest: what is taken from it, and what is refused.
#include "tests/data/token_set.h"

#include <filesystem>
#include <string>
#include <vector>

#include "catch.h"
#include "tests/data/corpora.h"

namespace normlab {
namespace {

namespace fs = std::filesystem;
using namespace test;

constexpr uint16_t kEnd = 256;

// Rows of 4: documents of 4 tokens and of 1, then of 3.
void add_padded_shards(TokenSet& set) {
  set.add({1, 2, 3, kEnd, kEnd, kEnd, kEnd, kEnd}, {4, 1});
  set.add({4, 5, kEnd, kEnd}, {3});
}

std::string error_of(const std::vector<std::string>& files) {
  return input_error_of([&] { read_shards(files); });
}
std::string error_of(const TokenSet& set) {
  const std::string message = error_of(set.files());
  return message;
}

}  // namespace

TEST_CASE("checksum: is XXH3's, whatever the parts are") {
  // Of Python's xxhash 4.1.
  CHECK(Checksum().value() == 0x2D06800538D394C2);
  std::vector<std::byte> bytes;
  for (int i = 0; i < 1000; ++i) bytes.push_back(static_cast<std::byte>(i * 7 % 256));
  for (const size_t part : {1, 7, 240, 241, 999, 1000}) {
    Checksum checksum;
    for (size_t at = 0; at < bytes.size(); at += part) {
      checksum.add(std::span(bytes).subspan(at, std::min(part, bytes.size() - at)));
    }
    CHECK(checksum.value() == 0x10AD30264426C830);
  }
}

TEST_CASE("token set: the manifest says what the shards do not") {
  TokenSet set;
  set.manifest.tokenizer = "gpt2:.";
  set.manifest.tokenizer_hash = 77;
  set.add({1, 2, kEnd, 3});
  set.add({4, kEnd});
  for (const bool read : {false, true}) {
    const CorpusDescription description =
        read ? read_shards(set.files()).description() : describe_shards(set.files());
    CHECK(description.vocabulary == 257);
    CHECK(description.end_of_text == kEnd);
    CHECK(!description.rows);
    CHECK(description.tokenizer == "gpt2:" + set.directory.path.string());
    CHECK(description.tokenizer_hash == 77);
    CHECK(description.manifest == set.directory.file("manifest.json"));
  }
  CHECK(tokens_of(read_shards(set.files())) == std::vector<uint16_t>{1, 2, kEnd, 3, 4, kEnd});
  CHECK(tokens_of(read_shards({set.file(1)})) == std::vector<uint16_t>{4, kEnd});
}

TEST_CASE("token set: shards in the current directory have their manifest there") {
  TokenSet set;
  set.add({1, kEnd});
  const fs::path before = fs::current_path();
  fs::current_path(set.directory.path);
  const CorpusDescription description = describe_shards({"train-00000.bin"});
  fs::current_path(before);
  CHECK(description.vocabulary == 257);
}

TEST_CASE("token set: the hash is of tokens, rows and beginnings, not of shards") {
  // Of Python's xxhash 4.1: XXH3 of {0} as int64 seeded with that of the tokens.
  const std::vector<uint16_t> tokens = {9, 0, 5, 6, 50256};
  CHECK(corpus_of(tokens).hash() == 0xF24B66F98FD9DAA8);
  CHECK(corpus_of(tokens, {0, 2}).hash() == 0x657EE9C6F0E68F29);
  const TemporaryDirectory directory;
  const std::string a = directory.file("a.bin"), b = directory.file("b.bin");
  write_shard(a, std::vector<uint16_t>{9, 0});
  write_shard(b, std::vector<uint16_t>{5, 6, 50256});
  CHECK(read_shards({a, b}).hash() == 0xF24B66F98FD9DAA8);

  TokenSet rows(RowLayout{4, 9});
  rows.add({1, 2, 3, 4, 5, 9, 9, 9}, {4, 1});
  // XXH3 of {4, 9, XXH3 of the lengths} seeded with that of the tokens.
  CHECK(read_shards(rows.files()).hash() == 0x9F151BD51558F30C);
  CHECK(rows.manifest.shards[0].checksum == 0xC661EB7C6E7B3847);
  CHECK(rows.manifest.shards[0].lengths_checksum == 0x7C02101097A308CB);
  TokenSet parts(RowLayout{4, 9});
  parts.add({1, 2, 3, 4}, {4});
  parts.add({5, 9, 9, 9}, {1});
  CHECK(read_shards(parts.files()).hash() == 0x9F151BD51558F30C);
}

TEST_CASE("token set: rows know the lengths of their documents across shards") {
  TokenSet set(RowLayout{4, kEnd});
  add_padded_shards(set);
  const TokenCorpus corpus = read_shards(set.files());
  REQUIRE(corpus.row_count() == 3);
  const Documents documents(corpus);
  REQUIRE(documents.count() == 3);
  const std::vector<std::pair<int64_t, int64_t>> expected = {{0, 4}, {4, 5}, {8, 11}};
  for (int64_t i = 0; i < 3; ++i) {
    CHECK(std::pair(corpus.row(i).begin, corpus.row(i).end) == expected[size_t(i)]);
    CHECK(std::pair(documents[i].begin, documents[i].end) == expected[size_t(i)]);
  }
  CHECK_THROWS_AS(corpus.row(3), Error);
  CHECK_THROWS_AS(documents[-1], Error);
}

TEST_CASE("token set: tokens are copied across shards and never from outside") {
  TokenSet set;
  set.add({0, 1, 2});
  set.add({3});
  set.add({4, 5, 6, 7});
  const TokenCorpus corpus = read_shards(set.files());
  REQUIRE(corpus.size() == 8);
  for (int64_t first = 0; first <= 8; ++first) {
    for (int64_t count = 0; first + count <= 8; ++count) {
      std::vector<uint16_t> tokens(static_cast<size_t>(count));
      corpus.copy(first, tokens);
      for (int64_t i = 0; i < count; ++i) CHECK(tokens[size_t(i)] == first + i);
    }
    if (first < 8) CHECK(corpus[first] == first);
  }
  std::vector<uint16_t> two(2);
  CHECK_THROWS_AS(corpus.copy(7, two), Error);
  CHECK_THROWS_AS(corpus.copy(-1, two), Error);
  CHECK_THROWS_AS(corpus[8], Error);
  CHECK_THROWS_AS(corpus[-1], Error);
}

TEST_CASE("token set: joined documents are found by end-of-text, by number and one by one") {
  TokenSet set;
  set.add({1, kEnd, kEnd, 2});  // "2" goes on in the next shard
  set.add({3, kEnd, 4});
  for (const bool ended : {false, true}) {
    if (ended) set.add({kEnd});
    const TokenCorpus corpus = read_shards(set.files());
    const Documents documents(corpus);
    REQUIRE(documents.count() == 4);
    std::vector<int64_t> ends;
    for (int64_t i = 0; i < 4; ++i) ends.push_back(documents[i].end);
    CHECK(ends == std::vector<int64_t>{2, 3, 6, ended ? 8 : 7});
    for (const int64_t stride : {1, 2, 5}) {
      DocumentCursor cursor(corpus);
      for (int64_t place = 0; place < corpus.size(); place += stride) {
        const int64_t document = cursor.document_at(place);
        CHECK((documents[document].begin <= place && place < documents[document].end));
      }
    }
  }
  const TokenCorpus memory = corpus_of({1, 2, 3, 4, 5}, {0, 2, 2, 4});  // the second is empty
  DocumentCursor cursor(memory);
  std::vector<int64_t> found;
  for (int64_t place = 0; place < 5; ++place) found.push_back(cursor.document_at(place));
  CHECK(found == std::vector<int64_t>{0, 0, 2, 2, 3});
  CHECK_THROWS_AS(cursor.document_at(1), Error);
}

TEST_CASE("token set: documents of more tokens than are looked at at once are found") {
  std::vector<uint16_t> tokens(200'000, 7);
  const std::vector<size_t> ends = {0, 65'534, 65'535, 65'536, 131'072, 199'999};
  for (const size_t end : ends) tokens[end] = kEnd;
  TokenSet set;
  set.add(tokens);
  const TokenCorpus corpus = read_shards(set.files());
  const Documents documents(corpus);
  REQUIRE(documents.count() == int64_t(ends.size()));
  for (size_t i = 0; i < ends.size(); ++i) CHECK(documents[int64_t(i)].end == int64_t(ends[i]) + 1);
}

TEST_CASE("token set: a shard that is not in the manifest is said to be none of the set") {
  TokenSet set;
  set.add({1, kEnd});
  const std::string stranger = set.directory.file("train-00001.bin");
  write_shard(stranger, std::vector<uint16_t>{1});
  const std::string message = error_of({set.file(0), stranger});
  CHECK(contains(message, stranger + ": not in the manifest.json beside it"));
}

TEST_CASE("token set: a shard that is damaged is named with what is wrong") {
  TokenSet set;
  set.add({1, 2, kEnd});
  set.add({3, kEnd});
  const std::string file = set.file(1), whole = read_bytes(file);
  const auto error_with = [&](const std::string& bytes) {
    write_bytes(file, bytes);
    const std::string message = error_of(set);
    CHECK(contains(message, file + ": "));
    return message;
  };
  CHECK(contains(error_with(whole.substr(0, whole.size() - 1)), "truncated"));
  CHECK(contains(error_with(whole + "x"), "longer than it says"));
  CHECK(contains(error_with(""), "empty"));
  std::string changed = whole;
  changed[1024] = 4;
  CHECK(contains(error_with(changed), "fails its checksum"));
  changed = whole;
  changed[700] = 1;  // in the part of the header that means nothing
  CHECK(contains(error_with(changed), "fails its checksum"));
  changed = whole;
  changed[1025] = 2;  // id 515: damage, not another vocabulary
  CHECK(contains(error_with(changed), "fails its checksum"));
  changed = whole;
  changed[4] = 2;
  CHECK(contains(error_with(changed), "version 2"));
  fs::remove(file);
  CHECK(contains(error_of(set), file + ": no such file"));
}

TEST_CASE("token set: an id outside the vocabulary is named with its place") {
  TokenSet set;
  std::vector<uint16_t> tokens(700'000, 5);
  for (const size_t place : {0, 524'287, 524'288, 699'999}) {
    tokens.assign(tokens.size(), 5);
    tokens[place] = 257;
    write_shard(set.directory.file("train-00000.bin"), tokens);
    set.manifest.shards = {{"train-00000.bin", 700'000, 0, 0, 0}};
    set.renew_checksums();
    CHECK(contains(error_of(set), set.file(0) + ": token " + std::to_string(place) +
                                      " has the id 257 (outside the vocabulary of 257)"));
  }
  // The same without a manifest, where the vocabulary is the recipe's.
  fs::remove(set.directory.file("manifest.json"));
  CorpusDescription recipe;
  recipe.vocabulary = 257;
  CHECK(contains(input_error_of([&] { read_shards(set.files(), recipe); }),
                 "token 699999 has the id 257 (outside the vocabulary of 257)"));
  recipe.vocabulary = 300;
  CHECK(read_shards(set.files(), recipe).description().vocabulary == 300);
}

TEST_CASE("token set: a manifest that lies is told so") {
  TokenSet set;
  set.add({1, 2, kEnd});
  set.manifest.shards[0].tokens = 4;
  set.write();
  CHECK(contains(error_of(set), set.file(0) + ": not the shard of its manifest (3 tokens, "
                                              "manifest.json says 4)"));
  set.manifest.shards[0].tokens = 3;
  set.manifest.shards[0].checksum ^= 1;
  set.write();
  CHECK(contains(error_of(set), "fails its checksum"));
  // What can be seen without reading tokens is seen in a plan too.
  CHECK_NOTHROW(describe_shards(set.files()));
  set.manifest.shards[0].tokens = 4;
  set.write();
  CHECK(contains(input_error_of([&] { describe_shards(set.files()); }), "says 4"));
}

TEST_CASE("token set: lengths that do not fit their rows are told so") {
  TokenSet set(RowLayout{4, kEnd});
  add_padded_shards(set);
  const std::string lengths = set.file(0) + ".lengths";
  const auto with = [&](const std::vector<uint32_t>& values) {
    write_lengths(set.file(0), values);
    return error_of(set);
  };
  CHECK(contains(with({4}), lengths + ": 4 bytes (the lengths of 2 rows take 8)"));
  CHECK(contains(with({4, 1, 1}), lengths + ": 12 bytes"));
  CHECK(contains(with({4, 2}), lengths + ": fails its checksum"));
  CHECK(contains(with({5, 1}), lengths + ": fails its checksum"));
  write_lengths(set.file(0), {4, 5});
  set.renew_checksums();
  CHECK(contains(error_of(set), lengths + ": row 1 has 5 tokens (rows are of 4)"));
  write_lengths(set.file(0), {0xFFFFFFFF, 4});
  set.renew_checksums();
  CHECK(contains(error_of(set), lengths + ": row 0 has 4294967295 tokens"));
  fs::remove(lengths);
  CHECK(contains(error_of(set), lengths + ": no such file"));
}

TEST_CASE("token set: sets of different kinds are not joined, and both are named") {
  TokenSet set;
  set.add({1, kEnd});
  const auto error_with = [&](const TokenSet& other) {
    const std::string message = error_of({set.file(0), other.file(0)});
    CHECK(contains(message, set.file(0) + " and " + other.file(0) + ": of different sets ("));
    CHECK(input_error_of([&] { describe_shards({set.file(0), other.file(0)}); }) == message);
    return message;
  };
  TokenSet same;
  same.add({2, kEnd});
  CHECK(tokens_of(read_shards({same.file(0), set.file(0)})) ==
        std::vector<uint16_t>{2, kEnd, 1, kEnd});

  TokenSet tokenizer;
  tokenizer.manifest.tokenizer = "gpt2:/t";
  tokenizer.manifest.tokenizer_hash = 5;
  tokenizer.add({2, kEnd});
  CHECK(contains(error_with(tokenizer), "tokenizers bytes and gpt2:/t"));
  TokenSet vocabulary;
  vocabulary.manifest.vocabulary = 300;
  vocabulary.add({2, kEnd});
  CHECK(contains(error_with(vocabulary), "vocabularies of 257 and 300"));
  TokenSet end;
  end.manifest.end_of_text = 2;
  end.add({2, kEnd});
  CHECK(contains(error_with(end), "end-of-text 256 and 2"));
  TokenSet padded(RowLayout{2, kEnd});
  padded.add({2, kEnd}, {2});
  CHECK(contains(error_with(padded), "joined documents and rows of 2 padded with 256"));
  TokenSet bare;
  bare.add({2, kEnd});
  fs::remove(bare.directory.file("manifest.json"));
  CHECK(contains(error_with(bare), "only one of them has a manifest"));
}

TEST_CASE("token set: reading reports how far it is") {
  TokenSet set;
  set.add(std::vector<uint16_t>(600'000, 1));
  set.add({1, 2});
  std::vector<int64_t> bytes;
  read_shards(set.files(), {}, [&](int64_t done, int64_t total) {
    CHECK(total == 1'200'004);
    bytes.push_back(done);
  });
  REQUIRE(bytes.size() >= 3);
  CHECK(std::is_sorted(bytes.begin(), bytes.end()));
  CHECK(bytes.back() == 1'200'004);
}

}  // namespace normlab
