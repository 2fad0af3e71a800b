#include "kernels/ops.h"

#include <algorithm>

#include "catch.h"
#include "tests/op_cases.h"

namespace normlab {
namespace {

TEST_CASE("make_ops: works in the type that is asked for") {
  CHECK(make_ops(Device::cpu, Precision::fp32)->working_type() == DType::f32);
  CHECK(make_ops(Device::cpu, Precision::fp64)->working_type() == DType::f64);
  CHECK(make_ops(Device::cpu, Precision::fp32, 2)->device_name() == "CPU, 2 threads");
  CHECK(!make_ops(Device::cpu, Precision::fp32)->has_masters());
  const auto rounding = make_ops(Device::cpu, Precision::bf16, 1);
  CHECK(rounding->working_type() == DType::bf16);
  CHECK(rounding->gradient_type() == DType::f32);
  CHECK(rounding->statistics_type() == DType::f32);
  CHECK(rounding->has_masters());
  CHECK(rounding->device_name() == "CPU, 1 thread, rounds to bf16");
}

TEST_CASE("make_ops: a device that is not there is refused in words") {
  if (cuda_available()) return;
  CHECK_THROWS_AS(make_ops(Device::cuda, Precision::fp32), Error);
  CHECK(!cuda_status().empty());
}

TEST_CASE("Ops: what is uploaded is downloaded, strided tensors are refused") {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  const Memory memory = ops->allocate(6 * 4);
  const Tensor whole(memory.data(), DType::f32, {2, 3});
  const float source[] = {1, 2, 3, 4, 5, 6};
  float target[6] = {};
  ops->upload(whole, source);
  ops->download(target, whole);
  CHECK(std::equal(source, source + 6, target));
  CHECK_THROWS_AS(ops->upload(whole.column_slice(0, 2), source), Error);
  CHECK_THROWS_AS(ops->download(target, whole.column_slice(0, 2)), Error);
}

TEST_CASE("Ops: a tensor of another type than the working type is refused") {
  const auto ops = make_ops(Device::cpu, Precision::fp64, 1);
  const Memory memory = ops->allocate(64);
  const Tensor single(memory.data(), DType::f32, {2, 3});
  CHECK_THROWS_AS(ops->add(single, single, single), Error);
}

TEST_CASE("table of operators: every row has a name of its own") {
  std::vector<std::string> names;
  for (const OpCase& op_case : all_op_cases()) {
    CHECK(std::find(names.begin(), names.end(), op_case.name) == names.end());
    names.push_back(op_case.name);
  }
  CHECK(names.size() > 60);
}

}  // namespace
}  // namespace normlab
