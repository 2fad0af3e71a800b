// From a configuration to corpora: what is split, and what must be known of documents.
#include "engine/corpus.h"

#include "catch.h"
#include "config_text.h"
#include "temporary_folder.h"

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
