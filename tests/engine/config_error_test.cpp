// What a wrong configuration is told: file, line, key, value, why and what to do.
#include <algorithm>

#include "catch.h"
#include "config_text.h"
#include "engine/config_keys.h"

using namespace normlab;
using namespace normlab::test;

namespace {

bool contains(const std::string& text, const std::string& part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("config: an unknown key names file, line and the nearest key") {
  CHECK(complaint(minimal + "evaluation:\n  evry: 5\n") ==
        "a.yaml:7: evaluation.evry = 5 (unknown key). Did you mean evaluation.every?");
  CHECK(complaint(minimal + "evaluatoin:\n  every: 5\n") ==
        "a.yaml:6: evaluatoin (unknown key). Did you mean evaluation?");
  CHECK(complaint(minimal + "learning_rate: 5\n") ==
        "a.yaml:6: learning_rate = 5 (unknown key). Did you mean optimizer.learning_rate?");
  CHECK(contains(complaint(minimal + "checkpoint: {wombat: 1}\n"), "Known here: every, keep"));
  CHECK(contains(complaint(minimal + "wombat: 1\n"), "Known here: run, model"));
  CHECK(contains(override_complaint("model.norm.knid=rmsnorm"), "Did you mean model.norm.kind?"));
  CHECK(contains(override_complaint("model.init.kind.x=1"), "model.init.kind = {x: 1}"));
  CHECK(contains(override_complaint("data.grammar.document=1"), "data.grammar.documents?"));
}

TEST_CASE("config: a name from another program gets ours") {
  const std::pair<const char*, const char*> names[] = {
      {"optimizer.lr", "Write optimizer.learning_rate"},
      {"max_steps", "Write schedule.total_steps"},
      {"schedule.max_iters", "Write schedule.total_steps"},
      {"model.block_size", "Write data.sequence_length"},
      {"data.seq_len", "Write data.sequence_length"},
      {"max_length", "Write data.sequence_length"},
      {"batch.batch_size", "Write batch.micro_batch"},
      {"model.n_layer", "Write model.layers"},
      {"model.num_layers", "Write model.layers"},
      {"model.n_head", "Write model.heads"},
      {"model.n_embd", "Write model.width"},
      {"model.hidden_size", "Write model.width"},
      {"batch.gradient_accumulation_steps", "accumulation follows from batch.tokens_per_step"},
      {"optimizer.grad_clip", "Write optimizer.gradient_clip"},
      {"out_dir", "Write run.directory"},
      {"run.Output-Dir", "Write run.directory"}};
  for (const auto& [foreign, ours] : names) {
    CHECK(contains(override_complaint(std::string(foreign) + "=3"), ours));
  }
}

TEST_CASE("config: every name from another program leads to a key that exists") {
  for (const auto& [foreign, ours] : foreign_names()) {
    INFO(foreign);
    const std::string key = ours.substr(0, ours.find_first_of(" :"));
    CHECK((ours.empty() || std::count(known_keys().begin(), known_keys().end(), key) == 1));
  }
}

TEST_CASE("config: edit_distance counts insertions, deletions and substitutions") {
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("abc", "abc") == 0);
}

TEST_CASE("config: a process's place in a job is whole, and not part of the run") {
  const std::string rank = "parallel.rank=1", ranks = "parallel.ranks=2";
  CHECK(contains(override_complaint(rank), "parallel.ranks is missing"));
  CHECK(contains(override_complaint(ranks), "parallel.rank is missing"));
  CHECK(contains(override_complaint("parallel.local_rank=0"), "parallel.rank is missing"));
  CHECK(contains(complaint(minimal, {"parallel.rank=2", ranks}), "must be < ranks = 2"));
  const Config config = parse_config(minimal, "recipe.yaml", {rank, ranks});
  REQUIRE(config.parallel.place.has_value());
  CHECK(config.parallel.place->rank == 1);
  CHECK(config.parallel.place->ranks == 2);
  CHECK(config.parallel.place->local_rank == 1);
  CHECK(to_yaml(config) == to_yaml(parse_config(minimal, "recipe.yaml")));
}

TEST_CASE("config: values that ask for nothing are granted") {
  CHECK(override_complaint("parallel.zero_stage=0") == "");
  CHECK(override_complaint("parallel.zero_stage=1") == "");
  CHECK(contains(override_complaint("parallel.zero_stage=2"), "must be <= 1"));
  CHECK(override_complaint("model.norm.branch=none") == "");
  CHECK(override_complaint("data.tokenizer=bytes") == "");
  CHECK(contains(override_complaint("data.tokenizer=gpt2:dir"), "generated corpus is of bytes"));
  CHECK(complaint(minimal, {"data.tokenizer=gpt2:dir", "data.text=[a.txt]"}) == "");
}

TEST_CASE("config: a wrong type names the value and the type that is wanted") {
  CHECK(complaint(minimal + "run2: 1\n", {"run2=null"}) == "");
  CHECK(override_complaint("run.seed=abc") ==
        "command line: run.seed = abc (must be an integer). Write decimal digits only");
  CHECK(override_complaint("run.seed=\"12\"") ==
        "command line: run.seed = \"12\" (must be an integer, not a text in quotes). Leave the "
        "quotes out");
  CHECK(contains(override_complaint("run.seed=1.5"), "this is a floating-point number"));
  CHECK(contains(override_complaint("run.seed=[1]"), "run.seed = [1] (must be an integer)"));
  CHECK(contains(override_complaint("run.seed={a: 1}"), "(must be an integer)"));
  CHECK(contains(override_complaint("run.seed=0x10"), "must be an integer"));
  CHECK(contains(override_complaint("run.seed=1__0"), "must be an integer"));
  CHECK(contains(override_complaint("run.seed=+-1"), "must be an integer"));
  CHECK(contains(override_complaint("run.seed=99999999999999999999"), "beyond 64 bits"));
  CHECK(contains(override_complaint("run.seed=true"), "must be an integer"));
  CHECK(contains(override_complaint("run.seed="), "has no value"));
  CHECK(contains(override_complaint("batch.tokens_per_step=1e6"), "Write 1000000"));
  CHECK(contains(override_complaint("optimizer.epsilon=tiny"), "must be a number"));
  CHECK(contains(override_complaint("optimizer.epsilon='1'"), "not a text in quotes"));
  CHECK(contains(override_complaint("optimizer.epsilon=0x1p3"), "must be a number"));
  CHECK(contains(override_complaint("optimizer.betas=0.9"), "a list of 2 numbers"));
  CHECK(contains(override_complaint("optimizer.betas=[0.9]"), "a list of 2 numbers"));
  CHECK(contains(override_complaint("optimizer.betas=[0.9, [1]]"), "must be a number"));
  CHECK(contains(override_complaint("parallel.reproducible=yes"), "must be true or false"));
  CHECK(contains(override_complaint("parallel.reproducible=\"true\""), "must be true or false"));
  CHECK(contains(override_complaint("run.directory=[a]"), "must be a text"));
  CHECK(contains(override_complaint("run.directory=\"\""), "must not be empty"));
  CHECK(contains(override_complaint("run=3"), "must be a map of keys"));
  CHECK(contains(override_complaint("model.norm=pre"), "must be a map of keys"));
  CHECK(contains(override_complaint("data.grammar=true"), "must be a map of keys"));
  CHECK(contains(override_complaint("run.device=gpu"), "must be one of auto, cpu, cuda"));
  CHECK(contains(override_complaint("schedule.kind=cosin"), "Did you mean cosine?"));
}

TEST_CASE("config: integers that look octal are errors also where a real number is wanted") {
  CHECK(override_complaint("run.seed=010") ==
        "command line: run.seed = 010 (a leading 0 means octal to some readers of YAML). Leave "
        "the leading 0 out");
  CHECK(contains(override_complaint("optimizer.weight_decay=010"), "octal"));
  CHECK(contains(override_complaint("run.seed=-010"), "octal"));
  CHECK(override_complaint("run.seed=0") == "");
  CHECK(override_complaint("optimizer.weight_decay=0.10") == "");
}

TEST_CASE("config: NaN and infinity are no numbers") {
  for (const char* value : {"nan", ".nan", "NaN", "inf", ".inf", "-.inf", "Infinity", "1e999"}) {
    for (const char* key : {"optimizer.learning_rate=", "optimizer.weight_decay=",
                            "optimizer.gradient_clip=", "model.norm.epsilon="}) {
      CHECK(contains(override_complaint(std::string(key) + value), "must be a"));
    }
  }
}

TEST_CASE("config: a value out of range is told its range") {
  CHECK(complaint(minimal + "model2: 0\n", {"model2=null", "optimizer.learning_rate=-1"}) ==
        "command line: optimizer.learning_rate = -1 (must be > 0). Choose another value");
  for (const char* assignment : {"run.seed=-1",
                                 "run.threads=-1",
                                 "model.layers=0",
                                 "model.width=0",
                                 "model.heads=-4",
                                 "model.vocabulary=-1",
                                 "model.vocabulary=2147483648",
                                 "model.dropout=1",
                                 "model.dropout=-0.1",
                                 "model.norm.epsilon=0",
                                 "model.norm.epsilon=9e-38",
                                 "model.init.std=0",
                                 "data.sequence_length=0",
                                 "data.validation_fraction=1",
                                 "data.grammar.documents=9",
                                 "batch.tokens_per_step=0",
                                 "batch.micro_batch=0",
                                 "optimizer.learning_rate=0",
                                 "optimizer.betas=[1, 0.9]",
                                 "optimizer.betas=[0.9, -0.1]",
                                 "optimizer.epsilon=0",
                                 "optimizer.epsilon=9e-38",
                                 "optimizer.weight_decay=-1",
                                 "optimizer.gradient_clip=-1",
                                 "schedule.total_steps=0",
                                 "schedule.stop_step=0",
                                 "schedule.warmup_steps=-1",
                                 "schedule.minimum_ratio=1.1",
                                 "schedule.decay_fraction=0",
                                 "evaluation.every=-1",
                                 "evaluation.tokens=0",
                                 "checkpoint.keep=0",
                                 "checkpoint.seconds_before_end=-1",
                                 "parallel.shards=0",
                                 "guard.nonfinite_steps=0",
                                 "diagnostics.every=-1"}) {
    const std::string key = std::string(assignment).substr(0, std::string(assignment).find('='));
    CHECK(contains(override_complaint(assignment), "command line: " + key + " = "));
  }
}

TEST_CASE("config: the least of an epsilon and of documents are told with file and line") {
  CHECK(complaint(minimal + "data: {grammar: {documents: 9}}\n") ==
        "a.yaml:6: data.grammar.documents = 9 (must be >= 10). Choose another value");
  CHECK(contains(override_complaint("optimizer.epsilon=1e-50"),
                 "(must be >= 1e-37, to be a number in single precision)"));
  CHECK(override_complaint("model.norm.epsilon=1e-37") == "");
}

TEST_CASE("config: a required key that is missing is named with what to add") {
  for (const char* key : {"run.directory", "model.family", "model.layers", "model.width",
                          "model.heads", "batch.tokens_per_step", "batch.micro_batch",
                          "optimizer.learning_rate", "schedule.total_steps"}) {
    CHECK(
        contains(override_complaint(std::string(key) + "=null"), std::string(key) + " is missing"));
  }
  CHECK(complaint(minimal, {"optimizer.learning_rate=~"}) ==
        "a.yaml:4: optimizer.learning_rate is missing (it has no default). Add optimizer: "
        "{learning_rate: 1e-3}");
  CHECK(contains(complaint(""), "a.yaml: run.directory is missing"));
}

TEST_CASE("config: keys that do not go together say which and why") {
  CHECK(complaint(minimal, {"batch.tokens_per_step=1000"}) ==
        "command line: batch.tokens_per_step = 1000 (must be a multiple of data.sequence_length = "
        "256). The nearest is 1024");
  CHECK(contains(override_complaint("batch.micro_batch=9"), "must be <= the 8 sequences"));
  CHECK(contains(override_complaint("schedule.stop_step=101"), "total_steps = 100"));
  CHECK(contains(override_complaint("schedule.warmup_steps=100"), "must be < schedule.total"));
  CHECK(contains(complaint(minimal, {"schedule.kind=wsd", "schedule.warmup_steps=81"}),
                 "the decay of wsd begins before the warm-up ends, at step 80"));
  CHECK(complaint(minimal, {"schedule.kind=wsd", "schedule.warmup_steps=80"}) == "");
  CHECK(complaint(minimal, {"parallel={reproducible: true, shards: 9}"}) ==
        "command line: parallel.shards = 9 (must be <= the 8 sequences of a step where "
        "parallel.reproducible is on). Lower it, or raise batch.tokens_per_step");
  CHECK(override_complaint("parallel.shards=9") == "");
}

TEST_CASE("config: a size with another number beside it is neither, and says what to delete") {
  const std::string numbers =
      "run: {directory: x}\nmodel:\n  family: llama\n  layers: 5\n  width: 768\n  heads: 4\n" +
      minimal.substr(minimal.find("batch:"));
  CHECK(complaint(numbers, {"model.size=130m"}) ==
        "a.yaml:4: model.layers = 5 (model.size = 130m has 12). Delete one of the two (from the "
        "command line, the numbers with model.layers=null model.heads=null)");
  CHECK(complaint(numbers, {"model.size=130m", "model.layers=null", "model.heads=null"}) == "");
  for (const char* key : {"layers", "width", "heads", "kv_heads", "head_size", "feed_forward"}) {
    const std::string name = std::string("model.") + key;
    CHECK(contains(complaint(numbers, {"model.size=130m", "model.layers=null", "model.heads=null",
                                       name + "=6"}),
                   "command line: " + name + " = 6 (model.size = 130m has "));
  }
}

TEST_CASE("config: a shape that cannot be is told at its key") {
  CHECK(complaint(minimal, {"model.heads=5"}) ==
        "a.yaml:2: model.width = 32 (must be a multiple of model.heads = 5). "
        "Change one of the two, or give model.head_size");
  CHECK(contains(override_complaint("model.kv_heads=3"), "must divide model.heads = 4"));
  CHECK(contains(override_complaint("model.kv_heads=2"), "GPT-2 has as many"));
  CHECK(contains(override_complaint("model.head_size=16"), "width / heads"));
  CHECK(contains(override_complaint("model.rope_base=10"), "GPT-2 learns its positions"));
  CHECK(contains(override_complaint("model.biases=qkv"), "model.biases = qkv (GPT-2 has all)"));
  CHECK(contains(complaint(minimal, {"model.family=llama", "model.biases=all"}),
                 "model.biases = all (LLaMA has none, or qkv as Qwen2 has)"));
  CHECK(contains(complaint(minimal, {"model.family=llama", "model.head_size=7"}), "even"));
  CHECK(contains(override_complaint("model.context=128"), "data.sequence_length = 256"));
  CHECK(contains(override_complaint("model.size=130m"),
                 "model.size = 130m (no size of gpt2; there are small, medium, large, xl)"));
}
