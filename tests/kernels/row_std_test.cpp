#include "catch.h"
#include "tests/op_check.h"

namespace normlab {
namespace {

TEST_CASE("row stds: sum and auxiliary loss equal the loops in double") {
  check_equals_reference(row_std_cases());
}

TEST_CASE("row stds: one thread and two give the same bits") {
  check_threads_give_same_bits(row_std_cases());
}

// By finite differences of the loss of a norm's own statistics.
TEST_CASE("std_loss: the gradient is that of the loss, the target held") {
  constexpr int64_t kRows = 4, kColumns = 10;
  const auto ops = make_ops(Device::cpu, Precision::fp64, 1);
  ops->set_step_state({.std_loss_scale = 0.25});
  HostTensors tensors;
  tensors.input("x", kRows, kColumns, {2, 0.5});
  tensors.input("gain", 1, kColumns);
  tensors.written("normed", kRows, kColumns);
  tensors.written("statistics", kRows, 2);
  tensors.input("d_x", kRows, kColumns).values.assign(kRows * kColumns, 0);
  tensors.tokens("tokens", 2, kRows / 2, 9);
  HostMatrix& lengths = tensors.tokens("lengths", 2, 1, 1);
  lengths.values = {kRows / 2, kRows / 2};
  DeviceTensors t(*ops, tensors);
  const auto loss = [&](const StdLoss& settings) {
    ops->zero_loss();
    Norm norm;
    norm.gain = t["gain"];
    ops->residual_norm_forward({}, t["normed"], t["statistics"], t["x"], {}, norm);
    ops->add_std_loss(t["d_x"], t["x"], t["statistics"], t["tokens"], t["lengths"], settings);
    return ops->download_step_result().std_loss;
  };
  loss({.given_target = 1.5});
  HostMatrix gradient = tensors["d_x"];
  t.download(gradient);
  HostMatrix x = tensors["x"];
  for (size_t i = 0; i < x.values.size(); ++i) {
    constexpr double kStep = 1e-5;
    const double value = x.values[i];
    x.values[i] = value + kStep;
    t.upload(x);
    const double above = loss({.given_target = 1.5});
    x.values[i] = value - kStep;
    t.upload(x);
    const double below = loss({.given_target = 1.5});
    x.values[i] = value;
    CHECK(gradient.values[i] == Approx((above - below) / (2 * kStep)).epsilon(1e-6).margin(1e-9));
  }
}

}  // namespace
}  // namespace normlab
