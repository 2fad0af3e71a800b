#include "catch.h"
#include "tests/op_check.h"

namespace normlab {
namespace {

TEST_CASE("copy, add, zero: equal the loop in double") { check_equals_reference(move_cases()); }

TEST_CASE("copy, add, zero: one thread and two give the same bits") {
  check_threads_give_same_bits(move_cases());
}

TEST_CASE("copy: token ids move as they are") {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  const int32_t source[] = {1, -1, 50256, 7};
  int32_t target[4] = {};
  const auto view = [](auto* data) {
    return TensorView(reinterpret_cast<std::byte*>(const_cast<int32_t*>(data)), DType::i32,
                      Shape{2, 2});
  };
  ops->copy(view(target), view(source));
  CHECK(std::vector<int32_t>(target, target + 4) == std::vector<int32_t>(source, source + 4));
}

TEST_CASE("copy: tensors of different shapes or types are refused") {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  HostTensors tensors;
  tensors.updated("a", 2, 3);
  tensors.updated("b", 3, 2);
  tensors.tokens("c", 2, 3, 5);
  const DeviceTensors device(*ops, tensors);
  CHECK_THROWS_AS(ops->copy(device["a"], device["b"]), Error);
  CHECK_THROWS_AS(ops->copy(device["a"], device["c"]), Error);
  CHECK_THROWS_AS(ops->add(device["a"], device["a"], device["b"]), Error);
}

TEST_CASE("embedding: equals the loop in double") { check_equals_reference(embedding_cases()); }

TEST_CASE("embedding_backward: equals finite differences in double") {
  check_equals_finite_differences(embedding_cases());
}

TEST_CASE("embedding: one thread and two give the same bits") {
  check_threads_give_same_bits(embedding_cases());
}

TEST_CASE("embedding_forward: a position past the table is refused") {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  HostTensors tensors;
  tensors.tokens("tokens", 1, 3, 5);
  tensors.input("token_table", 5, 4);
  tensors.input("position_table", 4, 4);
  tensors.written("x", 3, 4);
  const DeviceTensors t(*ops, tensors);
  const auto run = [&](int64_t first_position) {
    ops->embedding_forward(t["x"], t["tokens"], t["token_table"], t["position_table"],
                           first_position);
  };
  CHECK_NOTHROW(run(1));
  CHECK_THROWS_AS(run(2), Error);
}

}  // namespace
}  // namespace normlab
