// Files and trees: YAML's traps, inheritance, overrides.
#include "catch.h"
#include "config_text.h"
#include "temporary_folder.h"

using namespace normlab;
using namespace normlab::test;

namespace {

std::string file_complaint(const std::string& path) {
  try {
    load_config(path, {});
  } catch (const Error& problem) {
    return problem.kind() == ErrorKind::input ? problem.what() : "WRONG KIND";
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("config: a duplicate key is an error that names both lines") {
  CHECK(complaint(minimal + "checkpoint:\n  keep: 3\n  every: 1\n  keep: 4\n") ==
        "a.yaml:9: keep (given twice, first at a.yaml:7). Delete one of the two");
  CHECK(contains(complaint(minimal + "model: {}\n"), "a.yaml:6: model (given twice"));
}

TEST_CASE("config: a second YAML document is an error") {
  CHECK(contains(complaint(minimal + "---\nrun: {seed: 3}\n"), "a.yaml:6: a second YAML document"));
  CHECK(complaint("---\n" + minimal) == "");
  CHECK(contains(complaint(minimal, {"run.directory=[a] b"}), "command line"));
}

TEST_CASE("config: a merge key is an error and an alias is not") {
  CHECK(contains(complaint(minimal + "checkpoint: &c {keep: 4}\nevaluation:\n  <<: *c\n"),
                 "a.yaml:8: << (merge keys are not supported)"));
  CHECK(parse(minimal + "evaluation: {every: &e 4}\ncheckpoint: {every: *e}\n").checkpoint.every ==
        4);
  CHECK(contains(complaint(minimal + "checkpoint: &c {keep: *c}\n"), "within its own anchor"));
}

TEST_CASE("config: aliases of aliases end in an error and not in all the memory") {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string name = std::to_string(i);
    std::string below = "*a";
    below += std::to_string(i - 1);
    bomb.append("a").append(name).append(": &a").append(name).append(" [").append(below);
    for (int j = 0; j < 9; ++j) bomb += ", " + below;
    bomb += "]\n";
  }
  CHECK(contains(complaint(bomb), "more than 100000 values"));
}

TEST_CASE("config: what is no YAML, or no map, or has tags, names its line") {
  CHECK(contains(complaint(minimal + "checkpoint: {keep: 3\n"), "a.yaml:"));
  CHECK(contains(complaint(minimal + "checkpoint: {keep: 3\n"), "not valid YAML"));
  CHECK(contains(complaint(minimal + "}\n"), "not valid YAML"));
  CHECK(contains(complaint("- a\n- b\n"), "a.yaml:1: no map of sections"));
  CHECK(contains(complaint(minimal + "checkpoint: {keep: !!int 3}\n"), "a.yaml:6: "));
  CHECK(contains(complaint(minimal + "? [a, b]\n: 3\n"), "a key that is no plain name"));
  CHECK(contains(complaint(minimal + "checkpoint.keep: 3\n"), "a key with a dot"));
  CHECK(contains(complaint(minimal + "checkpoint:\n  keep:\n"),
                 "a.yaml:7: checkpoint.keep = null (has no value"));
}

TEST_CASE("config: a file that cannot be read says so") {
  TemporaryFolder folder;
  CHECK(contains(file_complaint(folder.path() + "/none.yaml"), "No such file"));
  CHECK(contains(file_complaint(folder.path()), "it is a directory"));
  CHECK(contains(file_complaint(folder.write("empty.yaml", "")), "run.directory is missing"));
}

TEST_CASE("config: inherit merges maps key by key, replaces lists, and keeps each line's file") {
  TemporaryFolder folder;
  std::string base = folder.write("base/b.yaml", minimal + "data:\n  train: [x, y]\n");
  std::string top = folder.write("top.yaml",
                                 "inherit: base/middle.yaml\nschedule: {warmup_steps: 7}\n"
                                 "data: {train: [z]}\n");
  folder.write("base/middle.yaml", "inherit: b.yaml\nrun: {seed: 5}\n");
  Config config = load_config(top, {"run.threads=2"});
  CHECK(config.run.directory == "runs/x");
  CHECK(config.run.seed == 5);
  CHECK(config.run.threads == 2);
  CHECK(config.schedule.total_steps == 100);
  CHECK(config.schedule.warmup_steps == 7);
  CHECK(config.data.train == std::vector<std::string>{"z"});

  folder.write("base/middle.yaml", "inherit: b.yaml\nrun:\n  sed: 5\n");
  CHECK(contains(file_complaint(top), "base/middle.yaml:3: run.sed = 5 (unknown key)"));
}

TEST_CASE("config: null takes an inherited key away") {
  TemporaryFolder folder;
  folder.write("b.yaml", minimal + "data: {train: [x]}\n");
  std::string top = folder.write("top.yaml", "inherit: b.yaml\ndata: {train: ~, text: [t]}\n");
  CHECK(load_config(top, {}).data.corpus == Corpus::text);
}

TEST_CASE("config: a size takes the place of inherited numbers where they are taken away") {
  TemporaryFolder folder;
  folder.write("b.yaml", minimal);
  const std::string top = folder.write("top.yaml", "inherit: b.yaml\nmodel: {size: medium}\n");
  CHECK(contains(file_complaint(top), "b.yaml:2: model.layers = 2 (model.size = medium has 24)"));
  folder.write("top.yaml",
               "inherit: b.yaml\nmodel: {size: medium, layers: null, width: null, heads: null}\n");
  CHECK(load_config(top, {}).model.layers == 24);
}

TEST_CASE("config: files that inherit in a circle, or from nothing, are errors") {
  TemporaryFolder folder;
  std::string a = folder.write("a.yaml", "inherit: sub/b.yaml\n");
  folder.write("sub/b.yaml", "\ninherit: ../a.yaml\n");
  CHECK(contains(file_complaint(a), "sub/b.yaml:2: inherit = ../a.yaml (the files inherit in a"));
  CHECK(contains(file_complaint(folder.write("self.yaml", "inherit: self.yaml\n")), "circle"));
  CHECK(contains(file_complaint(folder.write("c.yaml", "inherit: none.yaml\n")), "No such file"));
  CHECK(contains(file_complaint(folder.write("d.yaml", "inherit: [a.yaml]\n")),
                 "d.yaml:1: inherit = [a.yaml] (must be the path"));
}

TEST_CASE("config: overrides reach nested keys, the last one wins, and are checked like a file") {
  Config config = parse(minimal, {"model.norm.epsilon=1e-3", "run.seed=3", "run.seed=4",
                                  "model={norm: {placement: post}}", "run.directory=a=b"});
  CHECK(config.model.norm.epsilon == 1e-3);
  CHECK(config.model.norm.placement == NormPlacement::post);
  CHECK(config.run.seed == 4);
  CHECK(config.run.directory == "a=b");
  for (const char* wrong : {"run.seed", "=3", "run..seed=3", ".seed=3", "run.=3"}) {
    CHECK(contains(complaint(minimal, {wrong}), "not an override"));
  }
  CHECK(contains(complaint(minimal, {"inherit=b.yaml"}), "a file inherits"));
  CHECK(contains(complaint(minimal, {"run.seed={"}), "not valid YAML"));
}

TEST_CASE("config: no text makes the reader crash") {
  const std::string yaml = minimal + "data: {validation: {a: [b]}, train: [\"x\"]}\n";
  uint64_t state = 1;
  const std::string letters = "{}[]:,&*!|>'\"%@`#-?~ \n\t0x\x80";
  int refused = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    std::string mutant = yaml;
    for (int change = 0; change < 2; ++change) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      mutant[(state >> 33) % mutant.size()] = letters[(state >> 20) % letters.size()];
    }
    std::string message = complaint(mutant);
    CHECK(message.rfind("WRONG KIND", 0) != 0);
    refused += message.empty() ? 0 : 1;
  }
  CHECK(refused > 1000);
}
