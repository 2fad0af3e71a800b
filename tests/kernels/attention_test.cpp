#include <algorithm>
#include <cmath>

#include "catch.h"
#include "tests/op_check.h"

namespace normlab {
namespace {

TEST_CASE("attention: equals the loop in double") { check_equals_reference(attention_cases()); }

TEST_CASE("attention backward: equals finite differences in double") {
  check_equals_finite_differences(attention_cases());
}

TEST_CASE("attention: one thread and two give the same bits") {
  check_threads_give_same_bits(attention_cases());
}

constexpr AttentionShape kShape{1, 70, 70, 2, 1, 16};

HostTensors attention_tensors() {
  HostTensors tensors;
  tensors.input("q", 70, 32);
  tensors.updated("k", 70, 16);
  tensors.updated("v", 70, 16);
  tensors.written("z", 70, 32);
  tensors.written("z_alone", 70, 32);
  tensors.written("lse", 2, 70);
  tensors.written("lse_alone", 2, 1);
  return tensors;
}

TEST_CASE("attention_forward: a later key changes no earlier row") {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  HostTensors tensors = attention_tensors();
  DeviceTensors t(*ops, tensors);
  const auto run = [&] {
    ops->attention_forward(t["z"], t["lse"], t["q"], t["k"], t["v"], kShape, {});
    HostMatrix z = tensors["z"];
    t.download(z);
    return z;
  };
  const HostMatrix before = run();
  constexpr int64_t kChanged = 66;
  for (const char* name : {"k", "v"}) {
    for (int64_t c = 0; c < 16; ++c) tensors[name](kChanged, c) = 9;
    t.upload(tensors[name]);
  }
  const HostMatrix after = run();
  const auto end_of = [](const HostMatrix& z) { return z.values.begin() + kChanged * 32; };
  CHECK(std::equal(before.values.begin(), end_of(before), after.values.begin()));
  CHECK(!std::equal(end_of(before), before.values.end(), end_of(after)));
}

TEST_CASE("attention_forward: one query of all keys so far gives its row of the whole") {
  const auto ops = make_ops(Device::cpu, Precision::fp64, 1);
  HostTensors tensors = attention_tensors();
  const DeviceTensors t(*ops, tensors);
  ops->attention_forward(t["z"], t["lse"], t["q"], t["k"], t["v"], kShape, {});
  for (int64_t row = 0; row < 70; ++row) {
    const AttentionShape alone{1, 1, row + 1, 2, 1, 16};
    ops->attention_forward(t["z_alone"].row_slice(row, 1), t["lse_alone"], t["q"].row_slice(row, 1),
                           t["k"].row_slice(0, row + 1), t["v"].row_slice(0, row + 1), alone, {});
  }
  t.download(tensors);
  for (size_t i = 0; i < tensors["z"].values.size(); ++i) {
    CHECK(std::fabs(tensors["z"].values[i] - tensors["z_alone"].values[i]) < 1e-13);
  }
}

TEST_CASE("attention: shapes that do not fit are refused") {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  const HostTensors tensors = attention_tensors();
  const DeviceTensors t(*ops, tensors);
  const auto run = [&](const AttentionShape& shape) {
    ops->attention_forward(t["z"], t["lse"], t["q"], t["k"], t["v"], shape, {});
  };
  CHECK_NOTHROW(run(kShape));
  CHECK_THROWS_AS(run({1, 70, 60, 2, 1, 16}), Error);
  CHECK_THROWS_AS(run({1, 35, 35, 3, 2, 8}), Error);
}

}  // namespace
}  // namespace normlab
