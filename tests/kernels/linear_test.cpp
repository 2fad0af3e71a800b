#include "catch.h"
#include "tests/op_check.h"

namespace normlab {
namespace {

TEST_CASE("linear: equals the loop in double") { check_equals_reference(linear_cases()); }

TEST_CASE("linear backward: equals finite differences in double") {
  check_equals_finite_differences(linear_cases());
}

TEST_CASE("linear: one thread and two give the same bits") {
  check_threads_give_same_bits(linear_cases());
}

TEST_CASE("linear: shapes that do not fit are refused") {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  HostTensors tensors;
  tensors.input("x", 3, 4);
  tensors.input("weight", 5, 4);
  tensors.updated("y", 3, 5);
  const DeviceTensors t(*ops, tensors);
  CHECK_NOTHROW(ops->linear_forward(t["y"], t["x"], t["weight"], {}));
  CHECK_THROWS_AS(ops->linear_forward(t["y"], t["weight"], t["x"], {}), Error);
  CHECK_THROWS_AS(ops->linear_backward_input(t["y"], t["x"], t["weight"]), Error);
  CHECK_THROWS_AS(ops->linear_backward_weight(t["weight"], {}, t["x"], t["y"]), Error);
}

TEST_CASE("linear: row slices of a weight give the columns of the whole product") {
  // As q, k and v do where their norms differ.
  const auto ops = make_ops(Device::cpu, Precision::fp64, 1);
  HostTensors tensors;
  tensors.input("x", 9, 48);
  tensors.input("weight", 96, 48);
  tensors.written("whole", 9, 96);
  tensors.written("parts", 9, 96);
  const DeviceTensors t(*ops, tensors);
  ops->linear_forward(t["whole"], t["x"], t["weight"], {});
  for (const int64_t first : {0, 32, 64}) {
    ops->linear_forward(t.columns("parts", first, 32), t["x"], t["weight"].row_slice(first, 32),
                        {});
  }
  t.download(tensors);
  for (size_t i = 0; i < tensors["whole"].values.size(); ++i) {
    CHECK(tensors["parts"].values[i] == Approx(tensors["whole"].values[i]).epsilon(1e-12));
  }
}

}  // namespace
}  // namespace normlab
