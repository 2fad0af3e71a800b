// Cross-entropy, and the loss of a step.
#include <algorithm>
#include <cmath>

#include "tests/op_cases.h"

namespace normlab {
namespace {

constexpr double kLossScale = 0.375;

void cross_entropy_reference(HostTensors& t) {
  const HostMatrix& logits = t["logits"];
  for (int64_t row = 0; row < logits.rows; ++row) {
    const auto target = static_cast<int64_t>(t["targets"](row, 0));
    double largest = logits(row, 0);
    for (int64_t c = 0; c < logits.columns; ++c) largest = std::max(largest, logits(row, c));
    double sum = 0;
    for (int64_t c = 0; c < logits.columns; ++c) sum += std::exp(logits(row, c) - largest);
    double& loss = t["losses"](row, 0);
    loss = target < 0 ? 0 : std::log(sum) + (largest - logits(row, target));
    t["losses_again"](row, 0) = loss;
    for (int64_t c = 0; c < logits.columns; ++c) {
      const double probability = std::exp(logits(row, c) - largest) / sum;
      const double gradient = probability - (c == target ? 1 : 0);
      t["d_logits"](row, c) = target < 0 ? 0 : kLossScale * gradient;
    }
  }
}

OpCase cross_entropy_case(const std::string& name, double bound, int64_t rows, int64_t vocabulary,
                          Fill fill) {
  OpCase op_case{.name = name, .bound = bound, .state = {.loss_scale = kLossScale}};
  HostTensors& tensors = op_case.tensors;
  tensors.input("logits", rows, vocabulary, fill).padding = 3;
  tensors.tokens("targets", rows, 1, vocabulary);
  tensors.written("losses", rows, 1).element = Element::statistics;
  tensors.written("losses_again", rows, 1).element = Element::statistics;
  tensors.written("d_logits", rows, vocabulary).padding = 5;
  // What each token's loss counts in the loss of the step.
  HostMatrix& d_losses = tensors.input("d_losses", rows, 1);
  d_losses.values.assign(d_losses.values.size(), kLossScale);
  op_case.forward = [](Ops& ops, const DeviceTensors& t) {
    ops.cross_entropy_forward(t["losses"], t["logits"], t["targets"]);
  };
  op_case.backward = [](Ops& ops, const DeviceTensors& t) {
    ops.copy(t["d_logits"], t["logits"]);
    ops.cross_entropy_backward(t["losses_again"], t["d_logits"], t["targets"]);
  };
  op_case.reference = cross_entropy_reference;
  op_case.outputs = {{"losses", "d_losses"}};
  op_case.inputs = {{"logits", "d_logits"}};
  return op_case;
}

OpCase ignored_case() {
  OpCase op_case =
      cross_entropy_case("cross_entropy, ignored targets", 1e-6, 21, 101, {.deviation = 2});
  for (const int64_t row : {0, 1, 7, 20}) op_case.tensors["targets"](row, 0) = -1;
  return op_case;
}

// Logits of ±80: the target's probability, e^−160, is no float; its loss is 160.
OpCase underflow_case() {
  OpCase op_case = cross_entropy_case("cross_entropy, logits of ±80", 1e-6, 4, 48, {});
  for (int64_t row = 0; row < 4; ++row) {
    for (int64_t c = 0; c < 48; ++c) {
      op_case.tensors["logits"](row, c) = (c * 7 + row) % 5 == 0 ? 80 : -80;
    }
    op_case.tensors["targets"](row, 0) = static_cast<double>(row % 2 == 0 ? 1 : 5 * row);
  }
  return op_case;
}

// Losses of three micro-batches make one sum.
OpCase add_loss_case() {
  OpCase op_case{.name = "add_loss", .bound = 1e-12, .state = {.loss_scale = kLossScale}};
  HostTensors& tensors = op_case.tensors;
  tensors.input("losses", 1000, 1, {.mean = 3}).element = Element::statistics;
  tensors.input("more_losses", 7, 1, {.mean = 3}).element = Element::statistics;
  tensors.written("loss", 1, 1).element = Element::result;
  op_case.forward = [](Ops& ops, const DeviceTensors& t) {
    ops.zero_loss();
    ops.add_loss(t["losses"]);
    ops.add_loss(t["more_losses"]);
    ops.add_loss(t["losses"]);
    const StepResult result = ops.download_step_result();
    ops.upload(t["loss"], &result.loss);
  };
  op_case.reference = [](HostTensors& t) {
    double sum = 0;
    for (const double loss : t["losses"].values) sum += 2 * loss;
    for (const double loss : t["more_losses"].values) sum += loss;
    t["loss"](0, 0) = kLossScale * sum;
  };
  return op_case;
}

}  // namespace

std::vector<OpCase> loss_cases() {
  return {
      cross_entropy_case("cross_entropy", 1e-6, 37, 48, {.deviation = 2}),
      ignored_case(),
      underflow_case(),
      cross_entropy_case("cross_entropy, one row", 1e-6, 1, 7, {}),
      cross_entropy_case("cross_entropy, far from 0", 1e-6, 5, 48, {.deviation = 2, .mean = -90}),
      cross_entropy_case("cross_entropy, V = 50257", 1e-6, 9, 50257, {.deviation = 3}),
      add_loss_case()};
}

}  // namespace normlab
