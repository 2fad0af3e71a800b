#include <cmath>

#include "catch.h"
#include "tests/op_check.h"

namespace normlab {
namespace {

TEST_CASE("residual_norm: equals the loop in double") { check_equals_reference(norm_cases()); }

TEST_CASE("residual_norm backward: equals finite differences in double") {
  check_equals_finite_differences(norm_cases());
}

TEST_CASE("residual_norm: one thread and two give the same bits") {
  check_threads_give_same_bits(norm_cases());
}

// A layernorm with gain 1 and no bias of (37, 48) numbers about 0.3.
struct Plain {
  HostTensors tensors;
  explicit Plain(int64_t rows = 37) {
    tensors.input("residual", rows, 48, {1, 0.3});
    tensors.input("branch", rows, 48);
    tensors.input("gain", 1, 48).values.assign(48, 1);
    tensors.written("sum", rows, 48);
    tensors.written("normed", rows, 48);
    tensors.written("again", rows, 48);
    tensors.written("statistics", rows, 2).element = Element::statistics;
  }
};

TEST_CASE("residual_norm_forward: layernorm output has mean 0 and variance 1") {
  const auto ops = make_ops(Device::cpu, Precision::fp64, 2);
  Plain plain;
  const DeviceTensors t(*ops, plain.tensors);
  Norm norm;
  norm.gain = t["gain"];
  norm.epsilon = 0;
  ops->residual_norm_forward(Tensor(), t["normed"], t["statistics"], t["residual"], {}, norm);
  HostMatrix& normed = plain.tensors["normed"];
  t.download(normed);
  for (int64_t row = 0; row < normed.rows; ++row) {
    double mean = 0;
    double squares = 0;
    for (int64_t c = 0; c < 48; ++c) {
      mean += normed(row, c) / 48;
      squares += normed(row, c) * normed(row, c) / 48;
    }
    CHECK(std::fabs(mean) < 1e-14);
    CHECK(squares == Approx(1).epsilon(1e-13));
  }
}

TEST_CASE("residual_norm_forward: rmsnorm output has mean square 1") {
  const auto ops = make_ops(Device::cpu, Precision::fp64, 2);
  Plain plain;
  const DeviceTensors t(*ops, plain.tensors);
  Norm norm;
  norm.kind = NormKind::rmsnorm;
  norm.gain = t["gain"];
  norm.epsilon = 0;
  ops->residual_norm_forward(Tensor(), t["normed"], t["statistics"], t["residual"], {}, norm);
  HostMatrix& normed = plain.tensors["normed"];
  t.download(normed);
  for (int64_t row = 0; row < normed.rows; ++row) {
    double squares = 0;
    for (int64_t c = 0; c < 48; ++c) squares += normed(row, c) * normed(row, c) / 48;
    CHECK(squares == Approx(1).epsilon(1e-13));
  }
}

TEST_CASE("residual_norm_forward: fused sum and norm give the bits of add, then norm") {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 2);
  const Plain plain;
  const DeviceTensors t(*ops, plain.tensors);
  Norm norm;
  norm.gain = t["gain"];
  ops->residual_norm_forward(t["sum"], t["normed"], t["statistics"], t["residual"], t["branch"],
                             norm);
  const auto fused = t.bytes("sum");
  ops->add(t["sum"], t["residual"], t["branch"]);
  ops->residual_norm_forward(Tensor(), t["again"], t["statistics"], t["sum"], {}, norm);
  CHECK(t.bytes("sum") == fused);
  CHECK(t.bytes("again") == t.bytes("normed"));
}

TEST_CASE("residual_norm_forward: a branch without a sum is refused") {
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  const Plain plain;
  const DeviceTensors t(*ops, plain.tensors);
  Norm norm;
  norm.gain = t["gain"];
  CHECK_THROWS_AS(ops->residual_norm_forward(Tensor(), t["normed"], t["statistics"], t["residual"],
                                             t["branch"], norm),
                  Error);
}

}  // namespace
}  // namespace normlab
