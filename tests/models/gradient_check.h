// Gradients of a whole model against central finite differences, in double precision.
#pragma once

#include <algorithm>
#include <cmath>

#include "catch.h"
#include "tests/models/tiny.h"

namespace normlab {

// Share of the largest gradient of a tensor. Measured: 5.0e-9 at most.
constexpr double kGradientBound = 1e-7;

// A model, a batch, and the loss that StepState asks for as a function of the parameters.
class GradientCheck {
 public:
  explicit GradientCheck(const TinyCase& tiny, const std::vector<double>& gates = {1})
      : ops_(double_precision()),
        host_(random_batch(tiny.config, tiny.batch, tiny.tokens)),
        model_(*ops_, tiny.config, training(tiny.batch, tiny.tokens)) {
    model_.set_gates(gates);
    model_.zero_gradients();
    model_.backward(host_);
  }

  void check_all() {
    REQUIRE(model_.model.parameters().size() >= 13);
    for (size_t i = 0; i < model_.model.parameters().size(); ++i) check(i);
  }

 private:
  double loss() {
    double sum = 0;
    for (double loss : model_.losses(host_, Pass::training)) sum += loss;
    return 0.37 * sum;  // TinyModel's loss_scale
  }

  // d loss / d t at 0 of values + t·direction: five points, error of order h⁴.
  double difference(const Parameter& parameter, const std::vector<double>& values,
                    const std::vector<double>& direction) {
    constexpr double kStep = 3e-4;
    const auto at = [&](double t) {
      std::vector<double> moved = values;
      for (size_t e = 0; e < moved.size(); ++e) moved[e] += t * direction[e];
      model_.write(parameter.value, moved);
      return loss();
    };
    const double slope =
        (8 * (at(kStep) - at(-kStep)) - (at(2 * kStep) - at(-2 * kStep))) / (12 * kStep);
    model_.write(parameter.value, values);
    return slope;
  }

  void check(size_t index) {
    const Parameter& parameter = model_.model.parameters()[index];
    const std::vector<double> values = model_.read(parameter.value);
    const std::vector<double> gradient = model_.read(parameter.gradient);
    const auto by_size = [](double a, double b) { return std::abs(a) < std::abs(b); };
    const auto largest_at = std::max_element(gradient.begin(), gradient.end(), by_size);
    const double largest = std::abs(*largest_at);
    INFO(parameter.name);
    CHECK(largest > 1e-4);
    const auto check_along = [&](const std::vector<double>& direction) {
      double expected = 0;
      for (size_t e = 0; e < values.size(); ++e) expected += gradient[e] * direction[e];
      const double error = std::abs(difference(parameter, values, direction) - expected) / largest;
      CHECK(error <= kGradientBound);
    };
    std::vector<double> direction(values.size());
    for (size_t e = 0; e < values.size(); ++e) {
      direction[e] = normal_number(11, index, e) / std::sqrt(static_cast<double>(values.size()));
    }
    check_along(direction);
    const auto last = values.size() - 1;
    for (const size_t e : {static_cast<size_t>(largest_at - gradient.begin()), size_t{0}, last}) {
      std::vector<double> unit(values.size());
      unit[e] = 1;
      check_along(unit);
    }
  }

  std::unique_ptr<Ops> ops_;
  HostBatch host_;
  TinyModel model_;
};

}  // namespace normlab
