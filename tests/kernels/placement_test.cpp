// Sums with factors, learnt factors, gates, dyt and derf on the CPU.
#include "catch.h"
#include "tests/op_check.h"

namespace normlab {

TEST_CASE("placement verbs: equal the loops in double") {
  check_equals_reference(placement_op_cases());
}

TEST_CASE("placement verbs: gradients equal finite differences") {
  check_equals_finite_differences(placement_op_cases());
}

TEST_CASE("placement verbs: one thread and two give the same bits") {
  check_threads_give_same_bits(placement_op_cases());
}

}  // namespace normlab
