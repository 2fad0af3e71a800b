#include "data/token_shards.h"

#include <filesystem>
#include <string>
#include <vector>

#include "catch.h"
#include "kernels/error.h"
#include "tests/data/corpora.h"
#include "tests/data/temporary_directory.h"

namespace normlab {
namespace {

namespace fs = std::filesystem;
using namespace test;

std::string little_endian(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 0xFF);
  return text;
}

// A shard made by hand, apart from write_shard.
std::string shard(uint32_t magic, uint32_t version, uint32_t promised,
                  const std::vector<uint16_t>& tokens) {
  std::string bytes =
      little_endian(magic, 4) + little_endian(version, 4) + little_endian(promised, 4);
  bytes.resize(1024, '\0');
  for (const uint16_t token : tokens) bytes += little_endian(token, 2);
  return bytes;
}

TEST_CASE("token_shards: a written shard has llm.c's bytes") {
  const TemporaryDirectory directory;
  const std::vector<uint16_t> tokens = {1, 513, 50256, 65535};
  write_shard(directory.file("a.bin"), tokens);
  CHECK(read_bytes(directory.file("a.bin")) == shard(20240520, 1, 4, tokens));
}

TEST_CASE("token_shards: writing replaces the old file and leaves nothing beside") {
  const TemporaryDirectory directory;
  const std::string file = directory.file("a.bin");
  write_bytes(file, "old");
  write_shard(file, std::vector<uint16_t>{7, 8});
  CHECK(tokens_of(read_shards({file})) == std::vector<uint16_t>{7, 8});
  CHECK(std::distance(fs::directory_iterator(directory.path), {}) == 1);
}

TEST_CASE("token_shards: a failed write leaves nothing behind") {
  const TemporaryDirectory directory;
  const std::vector<uint16_t> tokens = {1, 2};
  const std::string missing = directory.file("missing/a.bin");
  CHECK(contains(input_error_of([&] { write_shard(missing, tokens); }), "cannot be written"));
  fs::create_directory(directory.path / "taken.bin");
  CHECK(contains(input_error_of([&] { write_shard(directory.file("taken.bin"), tokens); }),
                 "taken.bin: cannot be written"));
  CHECK(std::distance(fs::directory_iterator(directory.path), {}) == 1);
  CHECK_THROWS_AS(write_shard(directory.file("none.bin"), {}), Error);
}

TEST_CASE("token_shards: shards are joined in the order given") {
  const TemporaryDirectory directory;
  const std::string a = directory.file("a.bin");
  const std::string b = directory.file("b.bin");
  write_bytes(a, shard(20240520, 1, 3, {5, 6, 50256}));
  write_bytes(b, shard(20240520, 1, 2, {9, 0}));
  const TokenCorpus corpus = read_shards({b, a});
  CHECK(tokens_of(corpus) == std::vector<uint16_t>{9, 0, 5, 6, 50256});
  CHECK(corpus.starts().empty());
  CHECK(corpus.description().vocabulary == 50257);
  CHECK(corpus.description().end_of_text == -1);
  CHECK(corpus.hash() == corpus_of({9, 0, 5, 6, 50256}).hash());
  CHECK(corpus.hash() != read_shards({a, b}).hash());
}

TEST_CASE("token_shards: what is no whole shard is refused with the reason") {
  const TemporaryDirectory directory;
  const std::string file = directory.file("x.bin");
  const auto error_of = [&](const std::string& bytes) {
    write_bytes(file, bytes);
    const std::string message = input_error_of([&] { read_shards({file}); });
    CHECK(input_error_of([&] { shard_vocabulary({file}); }) == message);
    CHECK(contains(message, file + ": "));
    return message;
  };
  CHECK(contains(error_of(""), "empty"));
  CHECK(contains(error_of("Once upon a time"), "not a token shard (16 bytes"));
  CHECK(contains(error_of(shard(20240801, 7, 2, {1, 2})), "not a token shard"));
  CHECK(contains(error_of(shard(20240520, 2, 2, {1, 2})), "version 2"));
  CHECK(contains(error_of(shard(20240520, 1, 0, {})), "without tokens"));
  CHECK(contains(error_of(shard(20240520, 1, 0xFFFFFFFF, {1})), "without tokens"));
  CHECK(contains(error_of(shard(20240520, 1, 3, {1, 2})),
                 "truncated (its header says 3 tokens, it holds 2)"));
  CHECK(contains(error_of(shard(20240520, 1, 1, {1, 2})),
                 "longer than it says (its header says 1 tokens, it holds 2)"));
  CHECK(contains(error_of(shard(20240520, 1, 2, {1, 2}).substr(0, 1027)), "1 and a half"));
}

TEST_CASE("token_shards: the vocabulary alone is that of the tokens, wherever the largest is") {
  const TemporaryDirectory directory;
  const std::string small = directory.file("small.bin"), large = directory.file("large.bin");
  write_shard(small, std::vector<uint16_t>{3, 65535, 1});
  for (const size_t place : {0, 524'287, 524'288, 1'200'000}) {  // of blocks of 2^19
    std::vector<uint16_t> tokens(1'200'001, 5);
    tokens[place] = 4000;
    write_shard(large, tokens);
    CHECK(shard_vocabulary({large}) == 4001);
    CHECK(read_shards({large}).description().vocabulary == 4001);
  }
  CHECK(shard_vocabulary({small, large}) == 65536);
  CHECK(read_shards({small, large}).description().vocabulary == 65536);
  CHECK(contains(input_error_of([] { shard_vocabulary({}); }), "no token shards given"));
}

TEST_CASE("token_shards: a missing file, a directory and an empty list are input errors") {
  const TemporaryDirectory directory;
  CHECK(contains(input_error_of([&] { read_shards({directory.file("no.bin")}); }), "no such file"));
  CHECK(contains(input_error_of([&] { read_shards({directory.path.string()}); }), "not a file"));
  CHECK(contains(input_error_of([] { read_shards({}); }), "no token shards given"));
}

TEST_CASE("token_shards: expand_paths sorts the matches and keeps the order of the patterns") {
  const TemporaryDirectory directory;
  for (const char* name : {"t-2.bin", "t-1.bin", "t-10.bin", "v-1.bin", "v[1].bin", "t-1.txt"}) {
    write_bytes(directory.file(name), "x");
  }
  const auto named = [&](const std::vector<std::string>& names) {
    std::vector<std::string> paths;
    for (const std::string& name : names) paths.push_back(directory.file(name));
    return paths;
  };
  CHECK(expand_paths(named({"t-*.bin"})) == named({"t-1.bin", "t-10.bin", "t-2.bin"}));
  CHECK(expand_paths(named({"v-1.bin", "t-?.bin"})) == named({"v-1.bin", "t-1.bin", "t-2.bin"}));
  CHECK(expand_paths(named({"v[1].bin"})) == named({"v[1].bin"}));
  CHECK(expand_paths(named({"v[1].b*"})) == named({"v[1].bin"}));  // [ ] are no wildcards
  CHECK(expand_paths({}).empty());
  CHECK(contains(input_error_of([&] { expand_paths(named({"w-*.bin"})); }), "no file matches"));
  CHECK(contains(input_error_of([&] { expand_paths(named({"w-1.bin"})); }), "no such file"));
}

}  // namespace
}  // namespace normlab
