// What a configuration means: defaults, sizes, what follows from what, and the way back to YAML.
#include "engine/config.h"

#include "catch.h"
#include "config_text.h"
#include "engine/config_keys.h"

using namespace normlab;
using namespace normlab::test;
using Texts = std::vector<std::string>;

TEST_CASE("config: the smallest file gets the documented defaults") {
  Config config = parse(minimal);
  CHECK(config.run.directory == "runs/x");
  CHECK(config.run.seed == 1337);
  CHECK(config.data.corpus == Corpus::grammar);
  CHECK(config.data.sequence_length == 256);
  CHECK(config.sequences_per_step() == 8);
  CHECK(config.schedule.stop_step == 100);
  CHECK(config.schedule.kind == ScheduleKind::cosine);
  CHECK(config.optimizer.learning_rate == 1e-3);
  CHECK(config.optimizer.beta2 == 0.999);
  CHECK(config.model.vocabulary == 0);
  CHECK(config.model.context == 256);
  CHECK(config.model.norm.kind == NormKind::layernorm);
  CHECK(config.guard.nonfinite_steps == 10);
}

TEST_CASE("config: kv_heads, head_size and feed_forward follow from width and heads") {
  Config gpt2 = parse(minimal);
  CHECK(gpt2.model.kv_heads == 4);
  CHECK(gpt2.model.head_size == 8);
  CHECK(gpt2.model.feed_forward == 128);

  // 8/3 · 512 = 1365.3, up to a multiple of 64; 8/3 · 24 = 64 is one already.
  Config llama = parse(minimal, {"model.family=llama", "model.width=512"});
  CHECK(llama.model.feed_forward == 1408);
  CHECK(llama.model.norm.kind == NormKind::rmsnorm);
  CHECK(llama.model.activation == Activation::swiglu);
  CHECK(parse(minimal, {"model.family=llama", "model.width=24", "model.heads=2"})
            .model.feed_forward == 64);

  Config given = parse(minimal, {"model.family=llama", "model.kv_heads=2", "model.head_size=6",
                                 "model.feed_forward=100"});
  CHECK(given.model.kv_heads == 2);
  CHECK(given.model.head_size == 6);
  CHECK(given.model.feed_forward == 100);
}

TEST_CASE("config: a size gives the published numbers and leaves the other keys free") {
  Texts no_numbers = {"model={family: llama, size: 130m}", "model.layers=null", "model.width=null",
                      "model.heads=null"};
  Config config = parse(minimal, no_numbers);
  CHECK(config.model_size == "130m");
  CHECK(config.model.layers == 12);
  CHECK(config.model.width == 768);
  CHECK(config.model.feed_forward == 2048);
  CHECK(config.model.vocabulary == 32000);

  Texts beside = no_numbers;
  beside.insert(beside.end(), {"model.vocabulary=0", "model.context=300", "model.dropout=0.1",
                               "model.tie_embeddings=true", "model.rope_base=7",
                               "model.norm.placement=post", "model.init.std=0.5"});
  Config other = parse(minimal, beside);
  CHECK(other.model.vocabulary == 0);
  CHECK(other.model.context == 300);
  CHECK(other.model.norm.placement == NormPlacement::post);
  CHECK(other.model.feed_forward == 2048);

  Texts equal = no_numbers;
  equal.insert(equal.end(), {"model.layers=12", "model.width=768", "model.heads=12",
                             "model.kv_heads=12", "model.head_size=64", "model.feed_forward=2048"});
  CHECK(same_config(parse(minimal, equal), config));
}

TEST_CASE("config: model.from takes dropout beside it and nothing else of the model") {
  const std::string from =
      "run: {directory: x}\nmodel: {family: llama, from: dir, dropout: 0.1}\n" +
      minimal.substr(minimal.find("batch:"));
  Config config = parse(from);
  CHECK(config.model_from == std::optional<std::string>("dir"));
  CHECK(config.model_from_family == std::optional<Family>(Family::llama));
  CHECK(config.model.dropout == 0.1);
  CHECK(complaint(from, {"model.size=130m"}) ==
        "command line: model.size = 130m (model.from = dir decides it). Delete one of the two");
  CHECK(complaint(from, {"model.layers=3"}) != "");
  CHECK(complaint(from, {"model.norm.placement=pre"}) != "");
  CHECK(complaint(from, {"model.init.std=0.1"}) != "");
}

TEST_CASE("config: the corpus follows from the one key that is given") {
  CHECK(parse(minimal, {"data.train=[a.bin, b.bin]"}).data.corpus == Corpus::shards);
  CHECK(parse(minimal, {"data.train=[a.bin, b.bin]"}).data.train == Texts{"a.bin", "b.bin"});
  CHECK(parse(minimal, {"data.text=my.txt"}).data.corpus == Corpus::text);
  CHECK(parse(minimal, {"data.text=my.txt"}).data.text == Texts{"my.txt"});
  CHECK(parse(minimal, {"data.grammar={documents: 10}"}).data.grammar_documents == 10);
  CHECK(complaint(minimal, {"data.text=a", "data.grammar.documents=10"}) ==
        "command line: data.grammar = {documents: 10} (data.text is given too, and only one can "
        "be). Delete one (or, where it is inherited, write data: {text: null})");
}

TEST_CASE("config: validation is one list or a map of named lists") {
  Config list = parse(minimal, {"data.train=a", "data.validation=[b, c]"});
  CHECK(list.data.validation.at("validation") == Texts{"b", "c"});
  Config named = parse(minimal, {"data.train=a", "data.validation={owt: [b], c4.en: c}"});
  CHECK(named.data.validation.size() == 2);
  CHECK(named.data.validation.at("c4.en") == Texts{"c"});
  CHECK(override_complaint("data.validation=[b]") != "");  // the grammar brings its own
  CHECK(complaint(minimal, {"data.train=a", "data.validation={owt: []}"}) != "");
}

TEST_CASE("config: a text is not split where validation is given") {
  CHECK(parse(minimal, {"data.text=a"}).data.validation_fraction == 0.1);
  const Texts both = {"data.text=a", "data.validation=[b]"};
  CHECK(parse(minimal, both).data.validation_fraction == 0);
  CHECK(complaint(minimal, {both[0], both[1], "data.validation_fraction=0"}) == "");
  CHECK(complaint(minimal, {both[0], both[1], "data.validation_fraction=0.2"}) ==
        "command line: data.validation_fraction = 0.2 (data.validation is given, so nothing is "
        "split off for it). Delete one of the two");
}

TEST_CASE("config: betas, names and integers with underscores are read") {
  Config config =
      parse(minimal + "evaluation: {tokens: 1_000_000}\n",
            {"optimizer.betas=[0.8, 0.95]", "optimizer.name=adam",
             "optimizer.loss_average=micro_batch", "schedule.kind=wsd", "run.device=cuda",
             "run.precision=bf16", "data.packing=padded", "parallel.reproducible=true"});
  CHECK(config.evaluation.tokens == 1'000'000);
  CHECK(config.optimizer.beta1 == 0.8);
  CHECK(config.optimizer.beta2 == 0.95);
  CHECK(config.optimizer.name == OptimizerKind::adam);
  CHECK(config.optimizer.loss_average == LossAverage::micro_batch);
  CHECK(config.schedule.kind == ScheduleKind::wsd);
  CHECK(config.run.device == DeviceChoice::cuda);
  CHECK(config.run.precision == PrecisionChoice::bf16);
  CHECK(config.data.packing == Packing::padded);
  CHECK(config.parallel.reproducible);
}

TEST_CASE("config: what to_yaml writes reads back to an equal configuration") {
  const std::vector<Texts> variants = {
      {},
      {"data.train=[a b.bin, \"q\\\"uote\\\\.bin\"]", "data.validation={owt: [b], 010: [\"null\"]}",
       "run.directory=010"},
      {"data.text=[x, y]", "data.packing=padded", "optimizer.betas=[0.1, 0.30000000000000004]",
       "optimizer.learning_rate=6.103515625e-05", "optimizer.epsilon=1e-37"},
      {"data.text=[x, y]", "data.validation={a: [b]}", "run.precision=bf16"},
      {"model={family: llama, size: 9m, layers: null, width: null, heads: null}",
       "model.rope_base=500000.5", "model.biases=qkv"},
      {"model={from: dir, family: llama, layers: null, width: null, heads: null}"},
      {"data.grammar.documents=11", "schedule.stop_step=7", "schedule.kind=linear",
       "parallel={reproducible: true, shards: 3}", "run.seed=9223372036854775807"}};
  for (const Texts& overrides : variants) {
    Config config = parse(minimal, overrides);
    std::string yaml = to_yaml(config);
    INFO(yaml);
    Config again = parse_config(yaml, "config.yaml");
    CHECK(same_config(config, again));
    CHECK(to_yaml(again) == yaml);
    CHECK(differences(yaml, to_yaml(again)).empty());
  }
}

TEST_CASE("config: to_yaml writes every known key but those that exclude each other") {
  const std::string phase = "{start: 5, gap: 1, momentum: 0.5}";
  std::string yaml = to_yaml(parse(
      minimal, {"model.family=llama", "norm_removal={std: separate, attention: " + phase +
                                          ", attention_qk: " + phase + ", attention_v: " + phase +
                                          ", mlp: " + phase + ", final: {start: 6}}"}));
  for (const std::string& key : known_keys()) {
    if (key == "run.pure_bf16" || key == "model.from" || key == "model.size" ||
        key == "data.train" || key == "data.text" || key == "data.prompts" ||
        key.starts_with("data.roles") || key == "data.validation" ||
        key == "model.norm.post_layers" || key.starts_with("model.norm.lns_") ||
        key == "model.norm.branch_init" || key == "model.norm.slope_init" ||
        key == "parallel.rank" || key == "parallel.ranks" || key == "parallel.local_rank") {
      continue;
    }
    INFO(key);
    std::string line = key.substr(key.rfind('.'));
    line.front() = ' ';
    CHECK(yaml.find(line + ":") != std::string::npos);
  }
}

TEST_CASE("config: differences names what changed but not what may change") {
  std::string before = to_yaml(parse(minimal));
  std::string after =
      to_yaml(parse(minimal, {"optimizer.learning_rate=2e-3", "data.text=[a]", "evaluation.every=5",
                              "checkpoint.keep=9", "guard.nonfinite_steps=1", "diagnostics.every=2",
                              "evaluation.reference_batch=3", "run.directory=y", "run.threads=3",
                              "run.device=cpu", "run.precision=bf16", "schedule.stop_step=50"}));
  CHECK(differences(before, after) ==
        Texts{"data.grammar.documents: 2000 → absent", "data.text: absent → [\"a\"]",
              "optimizer.learning_rate: 0.001 → 0.002", "run.precision: auto → bf16"});
  CHECK(
      differences("optimizer: {learning_rate: 1e-3}", "optimizer: {learning_rate: 0.001}").empty());
}

TEST_CASE("differences, identity: the tokenizer of shards may have moved, that of texts not") {
  for (const bool shards : {true, false}) {
    const std::string data = shards ? "data.train=[a.bin]" : "data.text=[a.txt]";
    const std::string before = to_yaml(parse(minimal, {data, "data.tokenizer=gpt2:a"}));
    const std::string after = to_yaml(parse(minimal, {data, "data.tokenizer=gpt2:b"}));
    CHECK(differences(before, after).empty() == shards);
    CHECK((identity(before) == identity(after)) == shards);
  }
}
