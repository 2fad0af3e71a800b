// bf16 on the CPU: the number, and RoundingOps.
#include <bit>
#include <cmath>
#include <limits>

#include "catch.h"
#include "kernels/bfloat16.h"
#include "tests/op_check.h"

namespace normlab {
namespace {

uint16_t bits_of(float x) { return round_to_bfloat16(x).bits; }

float float_of(uint32_t bits) { return std::bit_cast<float>(bits); }

// All tensors of a row of the table after it ran on `ops`, which holds them as bf16 does.
HostTensors found_on(Ops& ops, const OpCase& op_case, const HostTensors& begin) {
  const DeviceTensors device(ops, begin);
  ops.set_step_state(op_case.state);
  ops.zero_loss();
  op_case.forward(ops, device);
  if (op_case.backward) op_case.backward(ops, device);
  HostTensors found = begin;
  device.download(found);
  return found;
}

bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// What the row gives in bf16 is what it gives in float, rounded where the tensor is a working one.
void check_rounded_once(const OpCase& op_case) {
  INFO(op_case.name);
  const auto exact = make_ops(Device::cpu, Precision::fp32, 2);
  const auto rounding = make_ops(Device::cpu, Precision::bf16, 2);
  HostTensors begin = op_case.tensors;
  begin.round_for(*rounding);
  const HostTensors wanted = found_on(*exact, op_case, begin);
  const HostTensors found = found_on(*rounding, op_case, begin);
  for (const HostMatrix& matrix : wanted.all()) {
    INFO(matrix.name);
    const bool working = matrix.element == Element::working;
    size_t different = 0;
    for (size_t i = 0; i < matrix.values.size(); ++i) {
      const double number = working ? begin.rounded(matrix.values[i]) : matrix.values[i];
      different += !same(found[matrix.name].values[i], number);
    }
    CHECK(different == 0);
  }
}

// A row of several masters and their values, 1 + i·2^−12: bf16 holds every sixteenth.
HostTensors masters(int64_t count) {
  HostTensors tensors;
  HostMatrix& master = tensors.updated("master", 1, count);
  master.element = Element::gradient;
  for (int64_t i = 0; i < count; ++i) master(0, i) = 1 + static_cast<double>(i) * 0x1p-12;
  tensors.updated("value", 1, count);
  for (const char* name : {"first", "second"}) {
    HostMatrix& moment = tensors.updated(name, 1, count);
    moment.values.assign(moment.values.size(), 0);
    moment.element = Element::gradient;
  }
  tensors.input("gradient", 1, count).element = Element::gradient;
  tensors.written("partials", 1, 1).element = Element::statistics;
  return tensors;
}

}  // namespace

TEST_CASE("round_to_bfloat16: a number that bf16 holds stays itself") {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float number = float_of(bits << 16);
    REQUIRE(std::bit_cast<uint32_t>(to_float({static_cast<uint16_t>(bits)})) == bits << 16);
    REQUIRE(bits_of(number) == (std::isnan(number) ? 0x7FFF : bits));
  }
}

TEST_CASE("round_to_bfloat16: goes to the nearest, between two to the even one") {
  // Up to the largest finite number, whose upper neighbour is infinity; of both signs.
  for (uint32_t bits = 0; bits < 0x7F80; ++bits) {
    for (const uint32_t sign : {0u, 0x8000u}) {
      const uint32_t low = bits | sign;
      REQUIRE(bits_of(float_of(low << 16 | 0x7FFF)) == low);
      REQUIRE(bits_of(float_of(low << 16 | 0x8001)) == low + 1);
      REQUIRE(bits_of(float_of(low << 16 | 0x8000)) == low + low % 2);
    }
  }
}

TEST_CASE("round_to_bfloat16: what is too large becomes infinite, no number stays none") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  CHECK(bits_of(std::numeric_limits<float>::max()) == 0x7F80);
  CHECK(bits_of(-kInfinity) == 0xFF80);
  // The upper half of its bits alone would be infinity's.
  CHECK(std::isnan(to_float(round_to_bfloat16(float_of(0x7F800001)))));
}

TEST_CASE("RoundingOps: gives what the exact operations give, rounded once") {
  for (const auto& group :
       {move_cases, embedding_cases, linear_cases, activation_cases, dropout_cases, loss_cases}) {
    for (const OpCase& op_case : group()) check_rounded_once(op_case);
  }
  for (OpCase op_case : attention_cases()) {
    op_case.backward = {};  // reads the rounded z
    check_rounded_once(op_case);
  }
}

TEST_CASE("RoundingOps: the fused norm reads the rounded sum") {
  const auto ops = make_ops(Device::cpu, Precision::bf16, 2);
  HostTensors tensors;
  tensors.input("residual", 37, 48, {1, 0.3});
  tensors.input("branch", 37, 48);
  tensors.input("gain", 1, 48, {0.3, 1});
  for (const char* name : {"sum", "normed", "again"}) tensors.written(name, 37, 48);
  tensors.written("statistics", 37, 2).element = Element::statistics;
  const DeviceTensors t(*ops, tensors);
  Norm norm;
  norm.gain = t["gain"];
  const auto norm_of_sum = [&](Tensor normed, Tensor sum, ConstTensor residual,
                               ConstTensor branch) {
    ops->residual_norm_forward(sum, normed, t["statistics"], residual, branch, norm);
  };
  norm_of_sum(t["normed"], t["sum"], t["residual"], t["branch"]);
  const auto fused = t.bytes("sum");
  const auto statistics = t.bytes("statistics");
  ops->add(t["sum"], t["residual"], t["branch"]);
  CHECK(t.bytes("sum") == fused);
  norm_of_sum(t["again"], Tensor(), t["sum"], {});
  CHECK(t.bytes("again") == t.bytes("normed"));
  CHECK(t.bytes("statistics") == statistics);
  // Without a branch the sum is a copy.
  ops->zero(t["again"]);
  norm_of_sum(t["normed"], t["again"], t["residual"], {});
  CHECK(t.bytes("again") == t.bytes("residual"));
  CHECK_THROWS_AS(norm_of_sum(t["normed"], Tensor(), t["residual"], t["branch"]), Error);
}

TEST_CASE("RoundingOps: a tensor of another type than bf16 is no activation") {
  const auto ops = make_ops(Device::cpu, Precision::bf16, 1);
  HostTensors tensors;
  tensors.input("number", 3, 4);
  tensors.input("wide", 3, 4).element = Element::gradient;
  tensors.written("sum", 3, 4);
  tensors.written("wide_sum", 3, 4).element = Element::gradient;
  const DeviceTensors t(*ops, tensors);
  CHECK_THROWS_AS(ops->add(t["sum"], t["number"], t["wide"]), Error);
  CHECK_THROWS_AS(ops->add(t["wide_sum"], t["number"], t["wide"]), Error);
  CHECK_THROWS_AS(ops->gelu_forward(t["sum"], t["wide"]), Error);
  CHECK_THROWS_AS(ops->gelu_forward(t["wide_sum"], t["number"]), Error);
}

TEST_CASE("RoundingOps: adamw moves the master, the value is it rounded") {
  const auto ops = make_ops(Device::cpu, Precision::bf16, 1);
  HostTensors tensors = masters(5000);
  const DeviceTensors t(*ops, tensors);
  ops->set_step_state({.learning_rate = 1e-3});
  ops->adamw(t["value"], t["master"], t["first"], t["second"], t["gradient"], {});
  HostTensors found = tensors;
  t.download(found);
  found.round_for(*ops);
  for (int64_t i = 0; i < 5000; ++i) {
    const double master = found["master"](0, i);
    REQUIRE(master != tensors["master"](0, i));
    REQUIRE(found["value"](0, i) == found.rounded(master));
  }
  CHECK_THROWS_AS(ops->adamw(t["value"], {}, t["first"], t["second"], t["gradient"], {}), Error);
}

TEST_CASE("RoundingOps: a gradient that is not finite leaves values and masters") {
  const auto ops = make_ops(Device::cpu, Precision::bf16, 1);
  HostTensors tensors = masters(50);
  tensors["gradient"](0, 7) = HUGE_VAL;
  const DeviceTensors t(*ops, tensors);
  const auto value = t.bytes("value");  // not what rounding the masters would give
  const auto master = t.bytes("master");
  ops->set_step_state({.learning_rate = 1e-3});
  ops->sum_of_squares(t["partials"], t["gradient"]);
  ops->finish_gradient(t["partials"]);
  ops->adamw(t["value"], t["master"], t["first"], t["second"], t["gradient"], {});
  CHECK(t.bytes("value") == value);
  CHECK(t.bytes("master") == master);
}

}  // namespace normlab
