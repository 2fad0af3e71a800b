// Training in bf16 alone, operator by operator (tests/op_pure_bf16.h).
#include "catch.h"
#include "tests/op_pure_bf16.h"

namespace normlab {

TEST_CASE("pure bf16: an update is torch's, operation by operation") {
  check_pure_adam(Device::cpu);
}
TEST_CASE("pure bf16: v never decays, where in float it does") { check_pure_v(Device::cpu); }
TEST_CASE("pure bf16: a gradient that is clipped is rounded once more") {
  check_pure_clipping(Device::cpu);
}
TEST_CASE("pure bf16: gradients are rounded pass by pass, and so are their sums") {
  check_pure_gradients(Device::cpu);
}
TEST_CASE("pure bf16: a norm rounds before its gain and before its factor, and so backward") {
  check_pure_norm(Device::cpu);
}
TEST_CASE("pure bf16: rotary positions round their tables and both products") {
  check_pure_rope(Device::cpu);
}
TEST_CASE("pure bf16: a sum with factors rounds its terms") { check_pure_sum(Device::cpu); }
TEST_CASE("pure bf16: silu is rounded before its product") { check_pure_swiglu(Device::cpu); }
TEST_CASE("pure bf16: log-probabilities are rounded, and the loss of a pass") {
  check_pure_loss(Device::cpu);
}

}  // namespace normlab
