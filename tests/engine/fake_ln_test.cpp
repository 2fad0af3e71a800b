// Whole removals against PyTorch: every gate, σ, loss and gradient norm of 20 updates.
#include "fake_ln.h"

using namespace normlab;
using namespace normlab::test;

TEST_CASE("golden removal: gates, sigmas, losses and gradients of every update are PyTorch's") {
  const GoldenRemoval golden = GENERATE(from_range(golden_removals()));
  const Precision precision = GENERATE(Precision::fp64, Precision::fp32);
  // As in the golden run, or in passes of one group.
  const int64_t micro_batch = GENERATE(4, 2);
  CAPTURE(golden.family, golden.run, static_cast<int>(precision), micro_batch);
  const auto ops = make_ops(Device::cpu, precision, 2);
  // In float32 PyTorch itself strays by 1.3e-6.
  check_removal(*ops, golden, micro_batch, precision == Precision::fp64 ? 1e-9 : 1e-5);
}
