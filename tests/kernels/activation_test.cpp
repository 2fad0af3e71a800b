#include <cmath>

#include "catch.h"
#include "tests/op_check.h"

namespace normlab {
namespace {

TEST_CASE("activations: equals the loop in double") { check_equals_reference(activation_cases()); }

TEST_CASE("activations backward: equals finite differences in double") {
  check_equals_finite_differences(activation_cases());
}

TEST_CASE("activations: one thread and two give the same bits") {
  check_threads_give_same_bits(activation_cases());
}

TEST_CASE("rope: backward undoes forward") {
  const auto ops = make_ops(Device::cpu, Precision::fp64, 2);
  HostTensors tensors;
  tensors.updated("x", 2 * 13, 48);
  const std::vector<double> before = tensors["x"].values;
  const DeviceTensors t(*ops, tensors);
  ops->rope(t["x"], 13, 16, 10000, 5, RopeDirection::forward);
  ops->rope(t["x"], 13, 16, 10000, 5, RopeDirection::backward);
  t.download(tensors);
  for (size_t i = 0; i < before.size(); ++i) {
    CHECK(std::fabs(tensors["x"].values[i] - before[i]) < 1e-14);
  }
}

TEST_CASE("rope: position 0 changes nothing") {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  HostTensors tensors;
  tensors.updated("x", 3, 16);
  const DeviceTensors t(*ops, tensors);
  const auto before = t.bytes("x");
  ops->rope(t["x"], 1, 16, 10000, 0, RopeDirection::forward);
  CHECK(t.bytes("x") == before);
}

TEST_CASE("rope: an odd head size is refused") {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  HostTensors tensors;
  tensors.updated("x", 3, 15);
  const DeviceTensors t(*ops, tensors);
  CHECK_THROWS_AS(ops->rope(t["x"], 1, 15, 10000, 0, RopeDirection::forward), Error);
}

TEST_CASE("rope: another base or head size does not find the angles of the last one") {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  HostTensors tensors;
  tensors.updated("x", 7, 48);
  const DeviceTensors t(*ops, tensors);
  const auto turned = [&](Ops& by, int64_t head_size, double base) {
    const DeviceTensors own(by, tensors);
    by.rope(own["x"], 7, head_size, base, 0, RopeDirection::forward);
    return own.bytes("x");
  };
  for (const auto& [head_size, base] : {std::pair{48, 10000.0}, {48, 500.0}, {16, 500.0}}) {
    const auto fresh = make_ops(Device::cpu, Precision::fp32, 1);
    CHECK(turned(*ops, head_size, base) == turned(*fresh, head_size, base));
  }
}

}  // namespace
}  // namespace normlab
