#include <cmath>

#include "catch.h"
#include "tests/op_check.h"

namespace normlab {
namespace {

TEST_CASE("cross_entropy: equals the loop in double") { check_equals_reference(loss_cases()); }

TEST_CASE("cross_entropy backward: equals finite differences in double") {
  check_equals_finite_differences(loss_cases());
}

TEST_CASE("cross_entropy: one thread and two give the same bits") {
  check_threads_give_same_bits(loss_cases());
}

TEST_CASE("cross_entropy: a probability that underflows has a finite loss and gradient") {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  HostTensors tensors;
  tensors.updated("logits", 1, 3).values = {3000, -3000, 0};
  tensors.tokens("targets", 1, 1, 1).values = {1};
  tensors.written("losses", 1, 1);
  const DeviceTensors t(*ops, tensors);
  ops->set_step_state({});
  ops->cross_entropy_backward(t["losses"], t["logits"], t["targets"]);
  t.download(tensors);
  CHECK(tensors["losses"].values == std::vector<double>{6000});
  CHECK(tensors["logits"].values == std::vector<double>{1, -1, 0});
}

TEST_CASE("cross_entropy_backward: the gradient of a row sums to 0") {
  const auto ops = make_ops(Device::cpu, Precision::fp64, 1);
  HostTensors tensors;
  tensors.updated("logits", 5, 101, {.deviation = 3});
  tensors.tokens("targets", 5, 1, 101);
  tensors.written("losses", 5, 1);
  const DeviceTensors t(*ops, tensors);
  ops->set_step_state({});
  ops->cross_entropy_backward(t["losses"], t["logits"], t["targets"]);
  t.download(tensors);
  for (int64_t row = 0; row < 5; ++row) {
    double sum = 0;
    for (int64_t c = 0; c < 101; ++c) sum += tensors["logits"](row, c);
    CHECK(std::fabs(sum) < 1e-14);
    CHECK(tensors["logits"](row, static_cast<int64_t>(tensors["targets"](row, 0))) < 0);
  }
}

TEST_CASE("cross_entropy_forward: a logit that is no number shows in the loss") {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  for (int64_t place = 0; place < 48; ++place) {
    HostTensors tensors;
    tensors.input("logits", 1, 48)(0, place) = std::nan("");
    tensors.tokens("targets", 1, 1, 48);
    tensors.updated("losses", 1, 1);
    const DeviceTensors t(*ops, tensors);
    ops->cross_entropy_forward(t["losses"], t["logits"], t["targets"]);
    t.download(tensors);
    INFO("logit " << place);
    CHECK(std::isnan(tensors["losses"](0, 0)));
  }
}

TEST_CASE("zero_loss: a step's loss starts anew") {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  HostTensors tensors;
  tensors.input("losses", 1, 1).values = {3};
  const DeviceTensors t(*ops, tensors);
  ops->set_step_state({.loss_scale = 0.5});
  ops->add_loss(t["losses"]);
  ops->add_loss(t["losses"]);
  CHECK(ops->download_step_result().loss == 3);
  ops->zero_loss();
  CHECK(ops->download_step_result().loss == 0);
}

}  // namespace
}  // namespace normlab
