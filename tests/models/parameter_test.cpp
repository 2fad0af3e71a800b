// The list of parameters, its buckets and its random beginning.
#include "models/parameter.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "catch.h"
#include "tests/models/tiny.h"

namespace normlab {
namespace {

std::vector<ModelConfig> configurations() {
  std::vector<ModelConfig> configs;
  for (const TinyCase& tiny : tiny_cases()) configs.push_back(tiny.config);
  return configs;
}

// By name alone, as a person would say it.
bool should_decay(const std::string& name) {
  return name.ends_with(".weight") || name == "embedding.token" || name == "embedding.position";
}

ModelConfig wide_gpt2() {
  ModelConfig config = tiny_gpt2();
  config.width = 120;
  config.heads = config.kv_heads = 10;
  config.feed_forward = 480;
  config.vocabulary = 300;
  config.init.std = 0.03;
  config.init.embedding_std = 0.6;
  return config;
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double std_of(const std::vector<double>& values) {
  double squares = 0;
  for (double value : values) squares += value * value;
  return std::sqrt(squares / static_cast<double>(values.size()));
}

std::vector<double> initial_values(const ModelConfig& config, uint64_t seed, Ops& ops) {
  TinyModel tiny(ops, config, inference(1, 8));
  tiny.model.initialize(seed);
  return tiny.read(tiny.model.values());
}

// Catches the gradients of a bucket when it is reported.
class BucketRecorder {
 public:
  explicit BucketRecorder(TinyModel& tiny) : tiny_(tiny) {}
  void operator()(int number) {
    order.push_back(number);
    seen.push_back(gradients(number));
  }
  std::vector<double> gradients(int number) {
    const Bucket& bucket = tiny_.model.buckets()[static_cast<size_t>(number)];
    return tiny_.read(
        tiny_.model.gradients().column_slice(bucket.begin, bucket.end - bucket.begin));
  }

  std::vector<int> order;
  std::vector<std::vector<double>> seen;

 private:
  TinyModel& tiny_;
};

}  // namespace

TEST_CASE("parameter_list: matrices and embeddings decay, biases and norms never") {
  for (const ModelConfig& config : configurations()) {
    for (const Parameter& parameter : parameter_list(config)) {
      INFO(parameter.name);
      CHECK(parameter.decays == should_decay(parameter.name));
    }
  }
}

TEST_CASE("parameter_list: names are unique, logical places follow each other") {
  for (const ModelConfig& config : configurations()) {
    std::set<std::string> names;
    int64_t offset = 0;
    for (const Parameter& parameter : parameter_list(config)) {
      CHECK(names.insert(parameter.name).second);
      CHECK(parameter.logical_offset == offset);
      offset += parameter.value.elements();
    }
    CHECK(offset == parameter_count(config));
    CHECK(names.contains("head.weight") == !config.tie_embeddings);
    CHECK(names.contains("embedding.position") == (config.positions == Positions::learned));
    CHECK(names.contains("layers.1.attention.qkv.bias") == (config.biases != Biases::none));
    for (const char* name : {"attention.out.bias", "mlp.in.bias", "mlp.out.bias"}) {
      CHECK(names.contains(std::string("layers.2.") + name) == (config.biases == Biases::all));
    }
    const bool norms = config.norm.placement != NormPlacement::none;
    CHECK(names.contains("layers.0.attention.norm.gain") == norms);
    CHECK(names.contains("final.norm.gain") == norms);
    CHECK(names.contains("layers.0.attention.norm.bias") ==
          (norms && config.norm.kind != NormKind::rmsnorm));
    CHECK(names.contains("head.bias") == config.head_bias);
  }
}

TEST_CASE("find_parameter: gives the index of a name, and refuses one that is not there") {
  const std::vector<Parameter> parameters = parameter_list(tiny_gpt2());
  for (size_t i = 0; i < parameters.size(); ++i) {
    CHECK(find_parameter(parameters, parameters[i].name) == static_cast<int>(i));
  }
  CHECK(find_parameter_or_none(parameters, "head.weight") == -1);
  CHECK_THROWS_AS(find_parameter(parameters, "head.weight"), Error);
}

TEST_CASE("assign_buckets: head, last layer to first, embeddings, without a gap") {
  for (const ModelConfig& config : configurations()) {
    std::vector<Parameter> parameters = parameter_list(config);
    const std::vector<Bucket> buckets = assign_buckets(parameters, config.layers);
    REQUIRE(buckets.size() == 5);
    int64_t end = 0;
    for (size_t i = 0; i < buckets.size(); ++i) {
      CHECK(buckets[i].begin == end);
      CHECK(buckets[i].decay_end >= buckets[i].begin);
      CHECK(buckets[i].end >= buckets[i].decay_end);
      CHECK(buckets[i].embeddings == (i == 4));
      for (const int64_t edge : {buckets[i].begin, buckets[i].decay_end, buckets[i].end}) {
        CHECK(edge % kBucketAlignment == 0);
      }
      end = buckets[i].end;
    }
    for (const Parameter& parameter : parameters) {
      INFO(parameter.name);
      const int layer = parameter.name.starts_with("layers.") ? parameter.name[7] - '0' : -1;
      const int expected =
          parameter.name.starts_with("embedding.") ? 4 : (layer < 0 ? 0 : 3 - layer);
      CHECK(parameter.bucket == expected);
    }
  }
}

TEST_CASE("assign_buckets: every parameter lies in its bucket's half, and none on another") {
  for (const ModelConfig& config : configurations()) {
    std::vector<Parameter> parameters = parameter_list(config);
    const std::vector<Bucket> buckets = assign_buckets(parameters, config.layers);
    std::vector<int> owners(static_cast<size_t>(buckets.back().end));
    for (const Parameter& parameter : parameters) {
      INFO(parameter.name);
      const Bucket& bucket = buckets[static_cast<size_t>(parameter.bucket)];
      const int64_t end = parameter.arena_offset + parameter.value.elements();
      const bool decays = should_decay(parameter.name);
      CHECK(parameter.arena_offset >= (decays ? bucket.begin : bucket.decay_end));
      REQUIRE(end <= (decays ? bucket.decay_end : bucket.end));
      for (int64_t e = parameter.arena_offset; e < end; ++e) ++owners[static_cast<size_t>(e)];
    }
    CHECK(std::ranges::count(owners, 1) == parameter_count(config));
    CHECK(std::ranges::count_if(owners, [](int count) { return count > 1; }) == 0);
  }
}

TEST_CASE("backward: reports each bucket once, in order, when its gradients are final") {
  const auto ops = single_precision();
  for (const TinyCase& tiny : tiny_cases()) {
    INFO(tiny.name);
    TinyModel model(*ops, tiny.config, training(tiny.batch, tiny.tokens));
    BucketRecorder recorder(model);
    model.backward(random_batch(tiny.config, tiny.batch, tiny.tokens), Pass::training, nullptr,
                   std::ref(recorder));
    REQUIRE(recorder.order == std::vector<int>{0, 1, 2, 3, 4});
    for (int number = 0; number < 5; ++number) {
      INFO("bucket " << number);
      const std::vector<double> final_gradients = recorder.gradients(number);
      CHECK(same_bits(recorder.seen[static_cast<size_t>(number)], final_gradients));
      // A model without a final norm whose head is the embedding has none of its own.
      CHECK((final_gradients.empty() || std_of(final_gradients) > 0));
    }
  }
}

TEST_CASE("backward: every parameter has a gradient, the gaps between them stay zero") {
  const auto ops = single_precision();
  for (const TinyCase& tiny : tiny_cases()) {
    INFO(tiny.name);
    TinyModel model(*ops, tiny.config, training(tiny.batch, tiny.tokens));
    model.backward(random_batch(tiny.config, tiny.batch, tiny.tokens));
    std::vector<double> rest = model.gradients();
    for (const Parameter& parameter : model.model.parameters()) {
      INFO(parameter.name);
      CHECK(std_of(model.read(parameter.gradient)) > 1e-4);
      std::fill_n(rest.begin() + parameter.arena_offset, parameter.value.elements(), 0.0);
    }
    CHECK(std_of(rest) == 0);
  }
}

TEST_CASE("initialize: the same seed gives the same bits, another seed others") {
  const auto one = single_precision(1);
  const auto two = single_precision(2);
  for (const ModelConfig& config : configurations()) {
    const std::vector<double> first = initial_values(config, 1, *one);
    CHECK(same_bits(initial_values(config, 1, *two), first));
    CHECK(relative_error(initial_values(config, 2, *one), first) > 0.05);
    std::vector<double> precise = initial_values(config, 1, *double_precision());
    for (double& value : precise) value = static_cast<float>(value);
    CHECK(same_bits(precise, first));
  }
}

TEST_CASE("initialize: matrices have mean 0 and the std asked for, gains are 1, biases 0") {
  const auto ops = single_precision();
  for (const InitKind kind : {InitKind::normal, InitKind::scaled}) {
    ModelConfig config = wide_gpt2();
    config.init.kind = kind;
    TinyModel tiny(*ops, config, inference(1, 8));
    tiny.model.initialize(3);
    for (const Parameter& parameter : tiny.model.parameters()) {
      INFO(parameter.name);
      const std::vector<double> values = tiny.read(parameter.value);
      if (!should_decay(parameter.name)) {
        const double expected = parameter.name.ends_with(".gain") ? 1 : 0;
        CHECK(std::ranges::count(values, expected) == std::ssize(values));
        continue;
      }
      const bool back = parameter.name.ends_with("out.weight") && kind == InitKind::scaled;
      double std = back ? 0.03 / std::sqrt(6.0) : 0.03;
      if (parameter.name == "embedding.token") std = 0.6;
      const double root = std::sqrt(static_cast<double>(values.size()));
      // Four standard errors.
      CHECK(std::abs(mean_of(values)) < 4 * std / root);
      CHECK(std::abs(std_of(values) / std - 1) < 4 / (std::sqrt(2.0) * root));
    }
  }
}

TEST_CASE("initialize: numbers are normal, and independent within and between matrices") {
  const auto ops = double_precision();
  TinyModel tiny(*ops, wide_gpt2(), inference(1, 8));
  tiny.model.initialize(3);
  const auto values = [&](const std::string& name) {
    const auto& parameters = tiny.model.parameters();
    const auto at = static_cast<size_t>(find_parameter(parameters, name));
    return tiny.read(parameters[at].value);
  };
  const std::vector<double> one = values("layers.0.mlp.in.weight");
  const std::vector<double> other = values("layers.1.mlp.in.weight");
  std::vector<double> neighbours, layers;
  for (size_t i = 0; i + 1 < one.size(); ++i) {
    neighbours.push_back(one[i] * one[i + 1] / 9e-4);
    layers.push_back(one[i] * other[i] / 9e-4);
  }
  const double error = 1 / std::sqrt(static_cast<double>(one.size()));
  CHECK(std::abs(mean_of(neighbours)) < 4 * error);
  CHECK(std::abs(mean_of(layers)) < 4 * error);
  const auto within = [&](double stds) {
    return static_cast<double>(std::ranges::count_if(
               one, [&](double value) { return std::abs(value) < stds * 0.03; })) /
           static_cast<double>(one.size());
  };
  CHECK(within(1) == Approx(0.682689).margin(2 * error));
  CHECK(within(2) == Approx(0.954500).margin(error));
}

}  // namespace normlab
