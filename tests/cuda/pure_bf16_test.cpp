// Training in bf16 alone on CUDA, operator by operator (tests/op_pure_bf16.h).
#include "catch.h"
#include "tests/op_pure_bf16.h"

namespace normlab {

TEST_CASE("pure bf16 on CUDA: an update is torch's, operation by operation") {
  check_pure_adam(Device::cuda);
}
TEST_CASE("pure bf16 on CUDA: v never decays, where in float it does") {
  check_pure_v(Device::cuda);
}
TEST_CASE("pure bf16 on CUDA: a gradient that is clipped is rounded once more") {
  check_pure_clipping(Device::cuda);
}
TEST_CASE("pure bf16 on CUDA: gradients are rounded pass by pass, and so are their sums") {
  check_pure_gradients(Device::cuda);
}
TEST_CASE(
    "pure bf16 on CUDA: a norm rounds before its gain and before its factor, and so backward") {
  check_pure_norm(Device::cuda);
}
TEST_CASE("pure bf16 on CUDA: rotary positions round their tables and both products") {
  check_pure_rope(Device::cuda);
}
TEST_CASE("pure bf16 on CUDA: a sum with factors rounds its terms") {
  check_pure_sum(Device::cuda);
}
TEST_CASE("pure bf16 on CUDA: silu is rounded before its product") {
  check_pure_swiglu(Device::cuda);
}
TEST_CASE("pure bf16 on CUDA: log-probabilities are rounded, and the loss of a pass") {
  check_pure_loss(Device::cuda);
}

}  // namespace normlab
