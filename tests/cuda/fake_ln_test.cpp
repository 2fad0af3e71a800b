// Whole removals on CUDA against PyTorch.
#include "tests/engine/fake_ln.h"

using namespace normlab;
using namespace normlab::test;

TEST_CASE("golden removal on CUDA: every update is PyTorch's in fp32") {
  const auto ops = make_ops(Device::cuda, Precision::fp32);
  for (const GoldenRemoval& golden : golden_removals()) {
    INFO(golden.family << ", " << golden.run);
    check_removal(*ops, golden, 4, 1e-5);
  }
}
