// From a configuration to corpora: what is split, and what must be known of documents.
#include "engine/corpus.h"

#include "catch.h"
#include "config_text.h"
#include "engine/plan.h"
#include "temporary_folder.h"
#include "tests/data/token_set.h"

using namespace normlab;
using namespace normlab::test;

namespace {

using Overrides = std::vector<std::string>;

// The message of opening the corpora of a run; "" where it succeeds.
std::string complaint_about(const Overrides& overrides) {
  const Config config = parse(minimal, overrides);
  try {
    open_corpus(config);
  } catch (const Error& error) {
    return (error.kind() == ErrorKind::input ? "" : "WRONG KIND: ") + std::string(error.what());
  }
  return "";
}

std::string train(const TokenSet& set) {
  return "data.train=[" + set.directory.file("*.bin") + "]";
}
std::string validation(const TokenSet& set) {
  return "data.validation={far: [" + set.directory.file("*.bin") + "]}";
}

// The same of a plan, which reads no tokens.
std::string complaint_of_plan(const Overrides& overrides) {
  Config config = parse(minimal, overrides);
  try {
    plan_run(config);
  } catch (const Error& error) {
    return (error.kind() == ErrorKind::input ? "" : "WRONG KIND: ") + std::string(error.what());
  }
  return "";
}

// What a run and a plan both say.
std::string common_complaint(const Overrides& overrides) {
  const std::string message = complaint_about(overrides);
  CHECK(complaint_of_plan(overrides) == message);
  return message;
}

const Overrides short_rows = {"data.sequence_length=4", "batch.tokens_per_step=64"};

Overrides with(Overrides overrides, const Overrides& more) {
  overrides.insert(overrides.end(), more.begin(), more.end());
  return overrides;
}

}  // namespace

TEST_CASE("corpus: with validation texts of its own a text is trained on whole") {
  const TemporaryFolder folder;
  const std::string text = folder.write("a.txt", std::string(1000, 'a'));
  const std::string other = folder.write("b.txt", std::string(300, 'b'));
  const RunCorpus split = open_corpus(parse(minimal, {"data.text=" + text}));
  CHECK(split.train.size() == 901);
  CHECK(split.validation.at("validation").size() == 101);
  for (const std::string& validation : {"[" + other + "]", "{far: [" + other + "]}"}) {
    const RunCorpus whole =
        open_corpus(parse(minimal, {"data.text=" + text, "data.validation=" + validation}));
    CHECK(whole.train.size() == 1001);
    REQUIRE(whole.validation.size() == 1);
    CHECK(whole.validation.begin()->second.size() == 301);
  }
}

TEST_CASE("corpus: padded rows and masked ends need documents whose ends are known") {
  const TemporaryFolder folder;
  const std::string shard = folder.path() + "/a.bin";
  write_shard(shard, std::vector<uint16_t>{1, 2, 3, 4});
  const std::string text = "data.text=" + folder.write("a.txt", std::string(1000, 'a'));
  const std::string train = "data.train=[" + shard + "]";
  const std::string validation = "data.validation={far: [" + shard + "]}";
  for (const std::string asked : {"data.packing=padded", "data.mask_eot_targets=true"}) {
    INFO(asked);
    CHECK(complaint_about({text, asked}) == "");
    CHECK(complaint_about({asked, "data.grammar.documents=10"}) == "");
    for (const Overrides& corpora : {Overrides{train}, Overrides{text, validation}}) {
      CHECK(complaint_about(corpora) == "");
      Overrides all = corpora;
      all.push_back(asked);
      const std::string message = complaint_about(all);
      INFO(message);
      CHECK(message.starts_with(corpora.size() == 1 ? "data.train: " : "data.validation far: "));
      CHECK(message.find("the data do not say where documents end") != std::string::npos);
    }
  }
}

TEST_CASE("corpus: a run takes tokenizer, vocabulary and packing from its set") {
  TokenSet set(RowLayout{4, 256});
  set.add({1, 2, 256, 256, 3, 256, 256, 256}, {3, 2});
  const Overrides overrides = with(short_rows, {train(set)});
  Config config = parse(minimal, overrides);
  CHECK(config.data.tokenizer.empty());
  CHECK(!config.data.packing);
  const RunCorpus corpus = open_corpus(config);
  CHECK(corpus.tokenizer == "bytes");
  CHECK(corpus.vocabulary == 257);
  Config planned = config;
  plan_run(planned);
  CHECK(planned.model.vocabulary == 257);
  resolve_data(config, corpus.train.description());
  for (const Config& resolved : {config, planned}) {
    CHECK(resolved.data.tokenizer == "bytes");
    CHECK(resolved.data.packing == Packing::padded);
    CHECK(training_stream(resolved).packing == RowPacking::padded);
  }
  // What is written is read back, and is the same run.
  const std::string yaml = to_yaml(config);
  CHECK(to_yaml(parse_config(yaml, "again.yaml")) == yaml);
  CHECK(open_corpus(parse_config(yaml, "again.yaml")).train.hash() == corpus.train.hash());
}

TEST_CASE("corpus: shards that name no tokenizer leave it to the recipe") {
  TokenSet set;
  set.add({1, 2, 3, 200});
  std::filesystem::remove(set.directory.file("manifest.json"));
  const Overrides bare = {train(set)};
  CHECK(open_corpus(parse(minimal, bare)).tokenizer == "");
  CHECK(open_corpus(parse(minimal, bare)).vocabulary == 201);
  const RunCorpus named = open_corpus(parse(minimal, with(bare, {"data.tokenizer=bytes"})));
  CHECK(named.tokenizer == "bytes");
  CHECK(named.vocabulary == 257);
  Config plan = parse(minimal, bare);
  plan_run(plan);
  CHECK(plan.model.vocabulary == 201);
  CHECK(plan.data.tokenizer.empty());
  CHECK(plan.data.packing == Packing::concatenated);
  const std::string message = complaint_about(with(bare, {"model.vocabulary=200"}));
  CHECK(message.find("token 3 has the id 200 (outside the vocabulary of 200)") !=
        std::string::npos);
  const TemporaryFolder folder;
  const std::string text = folder.write("a.txt", "validation");
  const Overrides texts = with(bare, {"data.validation=[" + text + "]"});
  CHECK(common_complaint(texts).find("tokenizer of these texts is not known") != std::string::npos);
  CHECK(common_complaint(with(texts, {"data.tokenizer=bytes"})) == "");
}

TEST_CASE("corpus: another tokenizer than the set's is refused") {
  TokenSet set;
  set.add({1, 2, 256});
  CHECK(common_complaint({train(set), "data.tokenizer=bytes"}) == "");
  set.manifest.tokenizer_hash = 5;
  set.manifest.tokenizer = "gpt2:.";
  set.write();
  const std::string message = common_complaint({train(set), "data.tokenizer=bytes"});
  INFO(message);
  CHECK(message.starts_with("data.train: data.tokenizer = bytes ("));
  CHECK(message.find(set.directory.file("manifest.json") +
                     " was made with gpt2:" + set.directory.path.string()) != std::string::npos);
  // By its own name the tokenizer need not be looked at.
  CHECK(common_complaint({train(set), "data.tokenizer=gpt2:" + set.directory.path.string()}) == "");
}

TEST_CASE("corpus: a padded set is packed as it was made or not at all") {
  TokenSet set(RowLayout{4, 256});
  set.add({1, 2, 256, 256, 3, 256, 256, 256}, {3, 2});
  const Overrides padded = with(short_rows, {train(set)});
  CHECK(common_complaint(with(padded, {"data.packing=padded"})) == "");
  CHECK(common_complaint(with(padded, {"data.mask_eot_targets=true"})) == "");
  CHECK(common_complaint(with(padded, {"data.packing=concatenated"}))
            .starts_with("data.train: packing concatenated (the token set is padded"));
  CHECK(common_complaint({train(set)})
            .starts_with("data.train: sequences of 256 tokens (the rows of the token set have 4)"));
  // A padded validation set is padded, however the run trains.
  TokenSet joined;
  joined.add({1, 2, 256});
  CHECK(common_complaint(with(short_rows, {train(joined), validation(set)})) == "");
  CHECK(common_complaint({train(joined), validation(set)})
            .starts_with("data.validation far: sequences of 256 tokens"));
}

TEST_CASE("corpus: validation sets are of the training set's tokenizer, and both are named") {
  TokenSet set, same, other, larger;
  for (TokenSet* each : {&set, &same, &other, &larger}) each->add({1, 2, 256});
  CHECK(common_complaint({train(set), validation(same)}) == "");
  other.manifest.tokenizer_hash = 5;
  other.manifest.tokenizer = "gpt2:/t";
  other.write();
  const std::string message = common_complaint({train(set), validation(other)});
  INFO(message);
  CHECK(message.starts_with("data.validation far: its tokens are of gpt2:/t in " +
                            other.directory.file("manifest.json")));
  CHECK(message.find("bytes in " + set.directory.file("manifest.json")) != std::string::npos);
  larger.manifest.vocabulary = 300;
  larger.manifest.tokenizer_hash = 0;
  larger.write();
  const std::string sizes = common_complaint({train(set), validation(larger)});
  CHECK(sizes.find("with a vocabulary of 300 (those trained on") != std::string::npos);
  // Without a manifest the ids themselves are looked at.
  std::filesystem::remove(larger.directory.file("manifest.json"));
  write_shard(larger.file(0), std::vector<uint16_t>{1, 257});
  const std::string ids = complaint_about({train(set), validation(larger)});
  INFO(ids);
  CHECK(ids.starts_with("data.validation far: " + larger.file(0) + ": token 1 has the id 257"));
}

TEST_CASE("corpus: a plan looks whether the data are there and reads none of them") {
  const TemporaryFolder folder;
  const std::string text = folder.write("a.txt", std::string(1000, 'a'));
  const std::string none = folder.path() + "/none";
  const auto missing = [&](const Overrides& overrides) {
    return common_complaint(overrides).find(none) != std::string::npos;
  };
  CHECK(missing({"data.text=[" + none + ".txt]"}));
  CHECK(missing({"data.train=[" + none + "*.bin]"}));
  CHECK(missing({"data.text=[" + text + "]", "data.validation={far: [" + none + ".bin]}"}));
  TokenSet set;
  set.add({1, 2, 256});
  std::string bytes = read_bytes(set.file(0));
  bytes[1024] = 9;
  write_bytes(set.file(0), bytes);
  CHECK(complaint_about({train(set)}).find("fails its checksum") != std::string::npos);
  CHECK(complaint_of_plan({train(set)}) == "");
  write_bytes(set.file(0), bytes.substr(0, 1028));
  CHECK(common_complaint({train(set)}).find("truncated") != std::string::npos);
  write_bytes(set.directory.file("manifest.json"), "{}");
  CHECK(common_complaint({train(set)}).find("manifest.json: schema is missing") !=
        std::string::npos);
}
