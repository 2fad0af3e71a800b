#include "engine/optimizer.h"

#include <cmath>

#include "catch.h"
#include "small_model.h"

using namespace normlab;
using namespace normlab::test;

namespace {

StepState first_update(double learning_rate, const OptimizerConfig& config, double clip = 0) {
  StepState state;
  state.learning_rate = learning_rate;
  state.first_moment_correction = 1 - config.beta1;
  state.second_moment_correction = 1 - config.beta2;
  state.gradient_clip = clip;
  return state;
}

// Gradients of both signs and of many magnitudes; 0 in the gaps between buckets.
void fill_gradients(SmallModel& small) {
  for (const Parameter& parameter : small.model.parameters()) {
    std::vector<float> values;
    for (int64_t i = 0; i < parameter.value.elements(); ++i) {
      const auto at = static_cast<double>(parameter.logical_offset + i);
      values.push_back(
          static_cast<float>(std::sin(at) * std::exp(-8 * std::fabs(std::cos(3 * at)))));
    }
    upload_floats(*small.ops, parameter.gradient, values);
  }
}

struct Numbers {
  std::vector<double> values, gradients, first, second;
};

// The weights in full: the masters where there are some.
Tensor weights_of(SmallModel& small, const Optimizer& optimizer) {
  return optimizer.masters() ? optimizer.masters() : small.model.values();
}

Numbers numbers_of(SmallModel& small, const Optimizer& optimizer) {
  const auto wide = [&](ConstTensor tensor) {
    const std::vector<float> narrow = download_floats(*small.ops, tensor);
    return std::vector<double>(narrow.begin(), narrow.end());
  };
  return {wide(weights_of(small, optimizer)), wide(small.model.gradients()),
          wide(optimizer.first_moment()), wide(optimizer.second_moment())};
}

// Update number `update` of element i, in double, straight from the papers' algorithms.
void plain_update(Numbers& numbers, size_t i, const OptimizerConfig& config, double decay,
                  double learning_rate, double clip_scale, int update) {
  double gradient = numbers.gradients[i] * clip_scale;
  double& value = numbers.values[i];
  if (config.name == OptimizerKind::adam) gradient += decay * value;
  double& m = numbers.first[i];
  double& v = numbers.second[i];
  m = config.beta1 * m + (1 - config.beta1) * gradient;
  v = config.beta2 * v + (1 - config.beta2) * gradient * gradient;
  const double m_hat = m / (1 - std::pow(config.beta1, update));
  const double v_hat = v / (1 - std::pow(config.beta2, update));
  if (config.name == OptimizerKind::adamw) value -= learning_rate * decay * value;
  value -= learning_rate * m_hat / (std::sqrt(v_hat) + config.epsilon);
}

bool is_embedding(const Parameter& parameter) {
  return parameter.name.find("embedding") != std::string::npos;
}

bool near(const std::vector<double>& actual, const std::vector<double>& expected) {
  for (size_t i = 0; i < actual.size(); ++i) {
    if (!(std::fabs(actual[i] - expected[i]) <= 2e-6 * (std::fabs(expected[i]) + 0.01)))
      return false;
  }
  return actual.size() == expected.size();
}

}  // namespace

TEST_CASE("optimizer: with zero gradients only matrices decay, and embeddings where asked") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    for (const bool embeddings : {true, false}) {
      OptimizerConfig config;
      config.weight_decay = 0.1;
      config.decay_embeddings = embeddings;
      SmallModel small(small_config(family), Purpose::training);
      small.ops->zero(small.model.gradients());
      Optimizer optimizer(small.model, config);
      std::vector<std::vector<float>> before;
      for (const Parameter& parameter : small.model.parameters()) {
        // Gains of 1 and biases of 0 would hide it.
        upload_floats(*small.ops, parameter.value,
                      std::vector<float>(static_cast<size_t>(parameter.value.elements()), 2.0f));
      }
      small.ops->set_step_state(first_update(0.5, config));
      optimizer.step();
      int matrices = 0;
      for (const Parameter& parameter : small.model.parameters()) {
        INFO(parameter.name);
        const bool matrix = parameter.value.shape.rank == 2 && parameter.value.rows() > 1;
        const bool moves = matrix && (embeddings || !is_embedding(parameter));
        for (const float value : download_floats(*small.ops, parameter.value)) {
          REQUIRE(value == (moves ? Approx(2.0 * (1 - 0.5 * 0.1)) : Approx(2.0)));
        }
        matrices += matrix;
      }
      CHECK(matrices >= 8);
    }
  }
}

TEST_CASE("optimizer: three updates are those of the plain algorithm") {
  const Precision precision = GENERATE(Precision::fp32, Precision::bf16);
  for (const OptimizerKind kind : {OptimizerKind::adamw, OptimizerKind::adam}) {
    for (const double clip : {0.0, 0.25}) {
      OptimizerConfig config;
      config.name = kind;
      config.weight_decay = 0.1;
      config.beta2 = 0.95;
      config.epsilon = 1e-3;
      SmallModel small(small_config(Family::gpt2), Purpose::training, 2, precision);
      small.ops->zero(small.model.gradients());
      fill_gradients(small);
      Optimizer optimizer(small.model, config);
      Numbers expected = numbers_of(small, optimizer);
      double squares = 0;
      for (const double gradient : expected.gradients) squares += gradient * gradient;
      const double scale = clip > 0 ? std::min(1.0, clip / std::sqrt(squares)) : 1.0;
      CHECK((clip == 0 || scale < 0.5));
      for (int update = 1; update <= 3; ++update) {
        StepState state = first_update(0.01 * update, config, clip);
        state.first_moment_correction = 1 - std::pow(config.beta1, update);
        state.second_moment_correction = 1 - std::pow(config.beta2, update);
        small.ops->set_step_state(state);
        optimizer.step();
        CHECK(small.ops->download_step_result().gradient_norm == Approx(std::sqrt(squares)));
        for (const Parameter& parameter : small.model.parameters()) {
          const bool matrix = parameter.value.shape.rank == 2 && parameter.value.rows() > 1;
          for (int64_t i = 0; i < parameter.value.elements(); ++i) {
            plain_update(expected, static_cast<size_t>(parameter.arena_offset + i), config,
                         matrix ? 0.1 : 0.0, state.learning_rate, scale, update);
          }
        }
      }
      const Numbers actual = numbers_of(small, optimizer);
      CHECK(near(actual.values, expected.values));
      CHECK(near(actual.first, expected.first));
      CHECK(near(actual.second, expected.second));
    }
  }
}

TEST_CASE("optimizer: a gradient that is not finite changes nothing") {
  for (const float wrong : {std::nanf(""), INFINITY}) {
    OptimizerConfig config;
    config.weight_decay = 0.1;
    SmallModel small(small_config(Family::llama), Purpose::training);
    fill_gradients(small);
    Optimizer optimizer(small.model, config);
    const Tensor last = small.model.parameters().back().gradient;
    std::vector<float> gradient = download_floats(*small.ops, last);
    gradient.back() = wrong;
    upload_floats(*small.ops, last, gradient);
    const std::vector<float> before = small.values();
    small.ops->set_step_state(first_update(0.1, config, 1.0));
    optimizer.step();
    CHECK(!small.ops->download_step_result().finite);
    CHECK(small.values() == before);
    for (const float moment : download_floats(*small.ops, optimizer.second_moment())) {
      REQUIRE(moment == 0);
    }
  }
}
