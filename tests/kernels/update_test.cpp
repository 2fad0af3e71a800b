#include <cmath>

#include "catch.h"
#include "tests/op_check.h"

namespace normlab {
namespace {

TEST_CASE("adamw: equals the loop in double") { check_equals_reference(update_cases()); }

TEST_CASE("adamw: one thread and two give the same bits") {
  check_threads_give_same_bits(update_cases());
}

TEST_CASE("finish_gradient: a loss that is not finite stops the update") {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  HostTensors tensors;
  tensors.input("losses", 1, 1).values = {HUGE_VAL};
  tensors.input("gradient", 1, 5);
  tensors.updated("value", 1, 5);
  tensors.updated("first", 1, 5);
  tensors.updated("second", 1, 5, {.deviation = 0.1, .mean = 1});
  tensors.written("partials", 1, 1);
  const DeviceTensors t(*ops, tensors);
  const auto update = [&] {
    ops->set_step_state({.learning_rate = 0.1});
    ops->sum_of_squares(t["partials"], t["gradient"]);
    ops->finish_gradient(t["partials"]);
    ops->adamw(t["value"], {}, t["first"], t["second"], t["gradient"], {});
  };
  const auto before = t.bytes("value");
  ops->zero_loss();
  ops->add_loss(t["losses"]);
  update();
  CHECK(!ops->download_step_result().finite);
  CHECK(t.bytes("value") == before);
  ops->zero_loss();
  update();
  CHECK(ops->download_step_result().finite);
  CHECK(t.bytes("value") != before);
}

TEST_CASE("adamw: learning rate 0 leaves the value and moves the moments") {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  HostTensors tensors;
  tensors.input("gradient", 1, 5);
  for (const char* name : {"value", "first", "second"}) tensors.updated(name, 1, 5, {0.1, 1});
  const DeviceTensors t(*ops, tensors);
  const auto value = t.bytes("value");
  const auto first = t.bytes("first");
  ops->set_step_state({.learning_rate = 0});
  ops->adamw(t["value"], {}, t["first"], t["second"], t["gradient"], {.weight_decay = 0.1});
  CHECK(t.bytes("value") == value);
  CHECK(t.bytes("first") != first);
}

TEST_CASE("sum_of_squares: blocks have the same bits wherever the gradient is cut") {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 2);
  constexpr int64_t kBlock = Ops::kNormBlock;
  HostTensors tensors;
  tensors.input("gradient", 1, 3 * kBlock + 17);
  tensors.written("whole", 4, 1);
  tensors.written("parts", 4, 1);
  const DeviceTensors t(*ops, tensors);
  const Tensor gradient = t["gradient"];
  ops->sum_of_squares(t["whole"], gradient);
  ops->sum_of_squares(t["parts"].row_slice(0, 1), gradient.column_slice(0, kBlock));
  ops->sum_of_squares(t["parts"].row_slice(1, 3), gradient.column_slice(kBlock, 2 * kBlock + 17));
  CHECK(t.bytes("parts") == t.bytes("whole"));
}

}  // namespace
}  // namespace normlab
