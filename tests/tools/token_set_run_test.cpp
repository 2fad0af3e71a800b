// Runs on sets of token shards: what they take from the set, write down, and refuse.
#include <filesystem>

#include "catch.h"
#include "data/text_reader.h"
#include "tests/data/corpora.h"
#include "tests/data/token_set.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

namespace fs = std::filesystem;

namespace {

// Lines of a story as documents of bytes, a row of 48 each or joined.
void fill(TokenSet& set, int lines) {
  const auto tokenizer = make_tokenizer("bytes");
  std::istringstream text(story(lines));
  std::vector<uint16_t> tokens;
  std::vector<uint32_t> lengths;
  for (std::string line; std::getline(text, line);) {
    std::vector<uint16_t> document = tokenizer->encode(line);
    document.push_back(256);
    if (set.manifest.rows) {
      const auto width = static_cast<size_t>(set.manifest.rows->length);
      lengths.push_back(static_cast<uint32_t>(std::min(document.size(), width)));
      document.resize(width, static_cast<uint16_t>(set.manifest.rows->pad));
    }
    tokens.insert(tokens.end(), document.begin(), document.end());
  }
  set.add(tokens, lengths);
}

std::string shards(const TokenSet& set) { return "[" + set.directory.file("*.bin") + "]"; }

Overrides trained_on(const TokenSet& set, const Overrides& more = {}) {
  Overrides overrides = {"data.grammar=null", "data.train=" + shards(set), "schedule.stop_step=4",
                         "evaluation.every=2", "checkpoint.every=2"};
  overrides.insert(overrides.end(), more.begin(), more.end());
  return overrides;
}

bool says(const Finished& finished, const std::string& text) {
  return finished.err.find(text) != std::string::npos;
}

void check_refused(const Finished& finished, const std::string& text) {
  INFO(finished.err);
  CHECK(finished.exit_code == 2);
  CHECK(count_lines(finished.err) == 1);
  CHECK(says(finished, text));
}

}  // namespace

TEST_CASE("train: config.yaml and checkpoints name the set's tokenizer and manifest") {
  TokenSet set(RowLayout{48, 256});
  fill(set, 100);
  const TinyRun run(trained_on(set));
  run.trained();
  const std::string yaml = content(run.directory() + "/config.yaml");
  CHECK(yaml.find("tokenizer: \"bytes\"") != std::string::npos);
  CHECK(yaml.find("packing: padded") != std::string::npos);
  CHECK(yaml.find("vocabulary: 257") != std::string::npos);
  const auto config = nlohmann::json::parse(content(run.checkpoint(4) + "/config.json"));
  CHECK(config.at("normlab").at("tokenizer") == "bytes");
  CHECK(config.at("normlab").at("packing") == "padded");
  const auto state = nlohmann::json::parse(content(run.checkpoint(4) + "/state.json"));
  CHECK(state.at("tokenizer") == "bytes");
  CHECK(state.at("tokenizer_hash") == "0000006279746573");
  CHECK(state.at("manifest") == set.directory.file("manifest.json"));
  CHECK(state.at("corpus_tokens") == 48 * set.manifest.documents());
}

TEST_CASE("train: a run on a set goes on bit for bit") {
  TokenSet set;
  fill(set, 100);
  const TinyRun whole(trained_on(set)), parted(trained_on(set));
  whole.trained();
  parted.trained({"schedule.stop_step=2"});
  CHECK(parted.train().exit_code == 0);
  CHECK(different_files(whole.checkpoint(4), parted.checkpoint(4)).empty());
}

TEST_CASE("train: a resume against another set says what differs") {
  TokenSet set;
  fill(set, 100);
  const TinyRun run(trained_on(set));
  run.trained({"schedule.stop_step=2"});
  const Manifest before = set.manifest;
  set.manifest.tokenizer_hash = 5;
  set.write();
  check_refused(run.train(), "tokenizer bytes then, bytes now with other contents");
  set.manifest = before;
  set.write();
  std::string bytes = read_bytes(set.file(0));
  bytes[1024] ^= 1;
  write_bytes(set.file(0), bytes);
  check_refused(run.train(), "fails its checksum");
  set.renew_checksums();
  check_refused(run.train(), "training tokens then, as many but others now");
  fs::remove(set.file(0));
  set.manifest.shards.clear();
  fill(set, 120);
  check_refused(run.train(), "was trained on other data");
}

TEST_CASE("train: named validation sets are reported under their names") {
  TokenSet set, owt, pile(RowLayout{48, 256});
  fill(set, 100);
  fill(owt, 20);
  fill(pile, 30);
  const TinyRun run(
      trained_on(set, {"data.validation={owt: " + shards(owt) + ", pile: " + shards(pile) + "}"}));
  const Finished finished = run.train();
  INFO(finished.err);
  REQUIRE(finished.exit_code == 0);
  const auto losses = run.metrics().back().at("validation_loss");
  REQUIRE(losses.size() == 2);
  const std::string log = content(run.directory() + "/log.txt");
  for (const auto& [name, tokens] :
       std::map<std::string, const TokenSet*>{{"owt", &owt}, {"pile", &pile}}) {
    // The same bits from outside, and the name wherever a loss is told.
    const Finished outside = normlab::test::run(
        {program("evaluate"), run.directory(), "--tokens", tokens->file(0), "--json"});
    INFO(outside.err);
    REQUIRE(outside.exit_code == 0);
    CHECK(nlohmann::json::parse(outside.out).at("loss") == losses.at(name));
    CHECK(log.find(" tokens of " + name + " are scored") != std::string::npos);
    CHECK(log.find("finished at step 4, ") != std::string::npos);
    CHECK(log.find(name + " loss ") != std::string::npos);
  }
  CHECK(losses.at("owt") != losses.at("pile"));
}

TEST_CASE("train, evaluate: each bad input of a set is exit code 2 and one line") {
  TokenSet good;
  fill(good, 100);
  const TinyRun run(trained_on(good));
  run.trained({"schedule.stop_step=1"});
  struct Case {
    std::string says;
    std::function<void(TokenSet&)> spoil;
  };
  const auto cut = [](TokenSet& set, size_t bytes) {
    write_bytes(set.file(0), read_bytes(set.file(0)).substr(0, bytes));
  };
  const auto poke = [](TokenSet& set, size_t place, char value) {
    std::string bytes = read_bytes(set.file(0));
    bytes[place] = value;
    write_bytes(set.file(0), bytes);
  };
  const std::vector<Case> cases = {
      {"truncated", [&](TokenSet& set) { cut(set, 2000); }},
      {"empty", [&](TokenSet& set) { cut(set, 0); }},
      {"not a token shard", [&](TokenSet& set) { poke(set, 0, 'x'); }},
      {"a shard of version 9", [&](TokenSet& set) { poke(set, 4, 9); }},
      {"fails its checksum", [&](TokenSet& set) { poke(set, 1100, 7); }},
      {"has the id ",
       [&](TokenSet& set) {
         poke(set, 1101, 7);
         set.renew_checksums();
       }},
      {"vocabulary of 300",
       [](TokenSet& set) {
         set.manifest.vocabulary = 300;
         set.manifest.tokenizer_hash = 0;
         set.write();
       }},
      {"manifest.json says 7",
       [](TokenSet& set) {
         set.manifest.shards[0].tokens = 7;
         set.write();
       }},
      {"manifest.json: is not JSON",
       [](TokenSet& set) { write_bytes(set.directory.file("manifest.json"), "{"); }},
  };
  for (const Case& each : cases) {
    TokenSet bad;
    fill(bad, 20);
    each.spoil(bad);
    INFO(each.says);
    const Finished evaluated =
        normlab::test::run({program("evaluate"), run.directory(), "--tokens", bad.file(0)});
    check_refused(evaluated, each.says);
    const TinyRun validated(trained_on(good, {"data.validation={far: " + shards(bad) + "}"}));
    check_refused(validated.train(), each.says);
    CHECK(tree_of(validated.directory()).empty());
  }
  TokenSet lengths(RowLayout{48, 256});
  fill(lengths, 20);
  write_lengths(lengths.file(0), {1});
  check_refused(TinyRun(trained_on(lengths)).train(), ".lengths: 4 bytes");
}

TEST_CASE("train: a set takes no memory but for the rows that are looked at") {
  if (SANITIZED) return;  // whose memory is not the program's
  TokenSet small, large;
  small.add(std::vector<uint16_t>(1000, 77));
  large.add(std::vector<uint16_t>(size_t{48} << 20, 77));  // 96 MiB
  const auto peak_of = [](const TokenSet& set) {
    const Finished finished = TinyRun(trained_on(set, {"schedule.stop_step=1"})).train();
    REQUIRE(finished.exit_code == 0);
    return finished.peak_bytes;
  };
  // A system may map 2 MiB for each of the 16 sequences, of this step and of the next.
  constexpr int64_t kMebibyte = int64_t{1} << 20;
  CHECK(peak_of(large) < peak_of(small) + 48 * kMebibyte);
}
