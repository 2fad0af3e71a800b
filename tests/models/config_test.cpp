// Sizes as published, and configurations that cannot be.
#include "models/config.h"

#include <cmath>
#include <utility>

#include "catch.h"
#include "tests/models/tiny.h"

namespace normlab {
namespace {

using Counts = std::vector<std::pair<std::string, int64_t>>;

std::vector<std::string> names(const Counts& counts) {
  std::vector<std::string> names;
  for (const auto& [name, count] : counts) names.push_back(name);
  return names;
}

std::string message(const ModelConfig& config) {
  try {
    validate(config);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
  return {};
}

// The error of a model that is `tiny_gpt2()` but for one change.
template <typename Change>
std::string message_after(const Change& change) {
  ModelConfig config = tiny_gpt2();
  change(config);
  return message(config);
}

}  // namespace

TEST_CASE("gpt2_config: every size has the published number of parameters") {
  const Counts counts{{"small", 124'439'808},
                      {"medium", 354'823'168},
                      {"large", 774'030'080},
                      {"xl", 1'557'611'200}};
  CHECK(gpt2_sizes() == names(counts));
  for (const auto& [name, count] : counts) {
    INFO(name);
    CHECK(parameter_count(gpt2_config(name)) == count);
    CHECK_NOTHROW(validate(gpt2_config(name)));
  }
}

TEST_CASE("llama_config: every size has the published number of parameters") {
  const Counts counts{{"9m", 8'995'968},     {"20m", 19'548'416},   {"35m", 35'197'824},
                      {"40m", 42'392'480},   {"60m", 58'073'600},   {"71m", 70'578'688},
                      {"100m", 100'117'120}, {"130m", 134'105'856}, {"250m", 247'370'496},
                      {"350m", 367'969'280}, {"1b", 1'339'082'752}, {"3b", 2'685'831'680},
                      {"7b", 6'738'415'616}};
  CHECK(llama_sizes() == names(counts));
  for (const auto& [name, count] : counts) {
    INFO(name);
    const ModelConfig config = llama_config(name);
    CHECK(parameter_count(config) == count);
    CHECK(config.context == (name == "7b" ? 2048 : 1024));
    CHECK(config.norm.epsilon == 1e-6);
    CHECK_NOTHROW(validate(config));
  }
}

TEST_CASE(
    "gpt2_config, llama_config: an unknown size is refused with the list of those there are") {
  CHECK_THROWS_WITH(gpt2_config("huge"),
                    "model.size = huge (no such gpt2 size). Use small, medium, large or xl");
  CHECK_THROWS_WITH(llama_config("2b"),
                    "model.size = 2b (no such llama size). Use one of 9m, 20m, 35m, 40m, 60m, 71m, "
                    "100m, 130m, 250m, 350m, 1b, 3b, 7b");
}

TEST_CASE("validate: a model that can be passes") {
  CHECK(message(tiny_gpt2()).empty());
  CHECK(message(tiny_llama()).empty());
  ModelConfig odd = tiny_gpt2();
  odd.head_size = 5;  // learned positions turn no pairs
  CHECK(message(odd).empty());
}

TEST_CASE("validate: no dimension is beyond what 64 bits can count") {
  const auto most = [](int64_t ModelConfig::*dimension, int64_t value) {
    return message_after([&](ModelConfig& config) { config.*dimension = value; });
  };
  CHECK(most(&ModelConfig::layers, 1024).empty());
  CHECK(most(&ModelConfig::layers, 1025) ==
        "model.layers = 1025 (must be at most 1024). Change it, or name a model.size");
  for (const auto dimension : {&ModelConfig::width, &ModelConfig::feed_forward}) {
    CHECK(most(dimension, 1 << 20).empty());
    CHECK(most(dimension, (1 << 20) + 1).find("(must be at most 1048576)") != std::string::npos);
  }
  for (const auto dimension : {&ModelConfig::vocabulary, &ModelConfig::context}) {
    CHECK(most(dimension, 1 << 24).empty());
    CHECK(most(dimension, (1 << 24) + 1).find("(must be at most 16777216)") != std::string::npos);
  }
  CHECK(most(&ModelConfig::heads, (1 << 20) + 2).find("model.heads = ") == 0);
  // Of 2 heads together.
  CHECK(most(&ModelConfig::head_size, 1 << 19).empty());
  CHECK(most(&ModelConfig::head_size, (1 << 19) + 2).find("(must be at most 524288)") !=
        std::string::npos);
}

TEST_CASE("validate: every dimension must be at least 1") {
  const std::vector<std::pair<std::string, int64_t ModelConfig::*>> dimensions{
      {"layers", &ModelConfig::layers},
      {"width", &ModelConfig::width},
      {"heads", &ModelConfig::heads},
      {"head_size", &ModelConfig::head_size},
      {"feed_forward", &ModelConfig::feed_forward},
      {"vocabulary", &ModelConfig::vocabulary},
      {"context", &ModelConfig::context}};
  for (const auto& [name, dimension] : dimensions) {
    CHECK(message_after([&](ModelConfig& config) { config.*dimension = 0; }) ==
          "model." + name + " = 0 (must be at least 1). Change it, or name a model.size");
  }
}

TEST_CASE(
    "validate: key heads must divide heads, rotary heads be even, dropout be at least 0 and below "
    "1") {
  for (int64_t kv_heads : {0, 3, 4, -1}) {
    CHECK(message_after([&](ModelConfig& config) { config.kv_heads = kv_heads; }) ==
          "model.kv_heads = " + std::to_string(kv_heads) +
              " (must divide heads = 2). Change it, or name a model.size");
  }
  CHECK(message_after([](ModelConfig& config) {
          config.positions = Positions::rope;
          config.head_size = 5;
        }).starts_with("model.head_size = 5 (must be even"));
  for (double dropout : {-0.1, 1.0, std::nan("")}) {
    CHECK(message_after([&](ModelConfig& config) { config.dropout = dropout; }) ==
          "model.dropout = " + std::to_string(dropout) + " (must lie in [0, 1)). Use 0 for none");
  }
}

TEST_CASE("Model: a workload of no token, or of more than the context, is refused") {
  const auto ops = single_precision();
  CHECK_THROWS_AS(Model(*ops, tiny_gpt2(), inference(0, 8)), Error);
  CHECK_THROWS_AS(Model(*ops, tiny_gpt2(), inference(1, 0)), Error);
  CHECK_THROWS_AS(Model(*ops, tiny_gpt2(), inference(1, 73)), Error);
  CHECK_NOTHROW(Model(*ops, tiny_gpt2(), inference(1, 72)));
}

}  // namespace normlab
