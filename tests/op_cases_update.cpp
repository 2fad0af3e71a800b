// Norm of the gradient, clipping, AdamW.
#include <cmath>

#include "tests/op_cases.h"

namespace normlab {
namespace {

struct UpdateSetting {
  int64_t elements = 0;
  int64_t steps = 1;
  double gradient_clip = 0;
  AdamW adamw = {};
};

// The state of update `step`, counted from 1: a learning rate of its own.
StepState state_at(const UpdateSetting& setting, int64_t step) {
  const auto t = static_cast<double>(step);
  return {.learning_rate = 0.01 / t,
          .first_moment_correction = 1 - std::pow(setting.adamw.beta1, t),
          .second_moment_correction = 1 - std::pow(setting.adamw.beta2, t),
          .gradient_clip = setting.gradient_clip};
}

// Loshchilov & Hutter 2019, algorithm 2, line by line.
void update_element(double& value, double& first, double& second, double gradient,
                    const UpdateSetting& setting, const StepState& state) {
  const AdamW& adamw = setting.adamw;
  double decay = adamw.weight_decay;
  if (adamw.kind == WeightDecay::coupled) {
    gradient += decay * value;
    decay = 0;
  }
  first = adamw.beta1 * first + (1 - adamw.beta1) * gradient;
  second = adamw.beta2 * second + (1 - adamw.beta2) * gradient * gradient;
  const double first_hat = first / state.first_moment_correction;
  const double second_hat = second / state.second_moment_correction;
  value -=
      state.learning_rate * (first_hat / (std::sqrt(second_hat) + adamw.epsilon) + decay * value);
}

void update_reference(HostTensors& t, const UpdateSetting& setting) {
  HostMatrix& partials = t["partials"];
  for (int64_t step = 0; step < setting.steps; ++step) {
    const HostMatrix& gradient = t["gradients"];
    double squares = 0;
    partials.values.assign(partials.values.size(), 0);
    for (int64_t i = 0; i < setting.elements; ++i) {
      const double square = gradient(step, i) * gradient(step, i);
      squares += square;
      partials.values[static_cast<size_t>(i / Ops::kNormBlock)] += square;
    }
    const double norm = std::sqrt(squares);
    const bool clips = setting.gradient_clip > 0 && norm > setting.gradient_clip;
    const double clip_scale = clips ? setting.gradient_clip / norm : 1;
    t["results"](step, 0) = norm;
    t["results"](step, 1) = clip_scale;
    t["results"](step, 2) = std::isfinite(norm) ? 1 : 0;
    if (!std::isfinite(norm)) continue;
    for (int64_t i = 0; i < setting.elements; ++i) {
      update_element(t["master"](0, i), t["first"](0, i), t["second"](0, i),
                     gradient(step, i) * clip_scale, setting, state_at(setting, step + 1));
    }
    t["value"].values = t["master"].values;
  }
}

OpCase update_case(const std::string& name, double bound, const UpdateSetting& setting) {
  OpCase op_case{.name = name, .bound = bound};
  HostTensors& tensors = op_case.tensors;
  const int64_t elements = setting.elements;
  const int64_t blocks = (elements + Ops::kNormBlock - 1) / Ops::kNormBlock;
  tensors.input("gradients", setting.steps, elements, {0.2, 0.03}).element = Element::gradient;
  const std::vector<double> values = tensors.updated("value", 1, elements, {0.02}).values;
  // Where there are no masters, it is the value's copy.
  HostMatrix& master = tensors.updated("master", 1, elements);
  master.values = values;
  master.element = Element::gradient;
  for (const char* moment : {"first", "second"}) {
    HostMatrix& matrix = tensors.updated(moment, 1, elements);
    matrix.values.assign(matrix.values.size(), 0);
    matrix.element = Element::gradient;
  }
  tensors.written("partials", blocks, 1).element = Element::statistics;
  tensors.written("results", setting.steps, 3).element = Element::result;
  op_case.forward = [=](Ops& ops, const DeviceTensors& t) {
    for (int64_t step = 0; step < setting.steps; ++step) {
      const Tensor gradient = t["gradients"].row_slice(step, 1);
      ops.set_step_state(state_at(setting, step + 1));
      ops.sum_of_squares(t["partials"], gradient);
      ops.finish_gradient(t["partials"]);
      ops.adamw(t["value"], ops.has_masters() ? t["master"] : Tensor(), t["first"], t["second"],
                gradient, setting.adamw);
      if (!ops.has_masters()) ops.copy(t["master"], t["value"]);
      const StepResult result = ops.download_step_result();
      const double numbers[] = {result.gradient_norm, result.clip_scale, result.finite ? 1.0 : 0.0};
      ops.upload(t["results"].row_slice(step, 1), numbers);
    }
  };
  op_case.reference = [=](HostTensors& t) { update_reference(t, setting); };
  return op_case;
}

OpCase round_weights_case(const std::string& name, int64_t elements) {
  OpCase op_case{.name = name};
  op_case.tensors.input("master", 1, elements, {0.02}).element = Element::gradient;
  op_case.tensors.written("value", 1, elements);
  op_case.forward = [](Ops& ops, const DeviceTensors& t) {
    if (ops.has_masters()) {
      ops.round_weights(t["value"], t["master"]);
    } else {
      ops.copy(t["value"], t["master"]);
    }
  };
  op_case.reference = [](HostTensors& t) {
    for (size_t i = 0; i < t["master"].values.size(); ++i) {
      t["value"].values[i] = t.rounded(t["master"].values[i]);
    }
  };
  return op_case;
}

// The gradient of the second of three updates is not finite: that update changes nothing.
OpCase skipped_case(const std::string& name, double poison) {
  OpCase op_case = update_case(name, 1e-6, {.elements = 300, .steps = 3, .gradient_clip = 1});
  op_case.tensors["gradients"](1, 217) = poison;
  return op_case;
}

}  // namespace

std::vector<OpCase> update_cases() {
  const AdamW coupled{.weight_decay = 0.1, .kind = WeightDecay::coupled};
  return {
      update_case("adamw, one update", 1e-6, {.elements = 33}),
      update_case("adamw, decoupled decay, clipped", 1e-6,
                  {.elements = 1000,
                   .steps = 10,
                   .gradient_clip = 1,
                   .adamw = {.beta2 = 0.95, .weight_decay = 0.1}}),
      update_case("adamw, coupled decay", 1e-6, {.elements = 1000, .steps = 10, .adamw = coupled}),
      update_case("adamw, a clip that is not reached", 1e-6,
                  {.elements = 100, .steps = 2, .gradient_clip = 1e3}),
      update_case("adamw, several blocks", 1e-6,
                  {.elements = 3 * Ops::kNormBlock + 5,
                   .gradient_clip = 1,
                   .adamw = {.weight_decay = 0.1}}),
      round_weights_case("round_weights", 33),
      round_weights_case("round_weights, several blocks", 3 * Ops::kNormBlock + 5),
      skipped_case("adamw, an update with an infinite gradient", HUGE_VAL),
      skipped_case("adamw, an update with a gradient that is no number", std::nan(""))};
}

}  // namespace normlab
