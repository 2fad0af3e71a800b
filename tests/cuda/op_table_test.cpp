// Every row of the table of operators, on CUDA.
#include "catch.h"
#include "tests/op_check.h"

namespace normlab {
namespace {

void check_on_cuda(const std::vector<OpCase>& cases) {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    check_equals_reference(cases, *make_ops(Device::cuda, precision));
  }
}

}  // namespace

TEST_CASE("moves on CUDA equal loops in double precision") { check_on_cuda(move_cases()); }
TEST_CASE("embedding on CUDA equals loops in double precision") {
  check_on_cuda(embedding_cases());
}
TEST_CASE("norms on CUDA equal loops in double precision") { check_on_cuda(norm_cases()); }
TEST_CASE("stds on CUDA equal loops in double precision") { check_on_cuda(row_std_cases()); }
TEST_CASE("placement verbs on CUDA equal loops in double precision") {
  check_on_cuda(placement_op_cases());
}
TEST_CASE("linear on CUDA equals loops in double precision") { check_on_cuda(linear_cases()); }
TEST_CASE("activations on CUDA equal loops in double precision") {
  check_on_cuda(activation_cases());
}
TEST_CASE("dropout on CUDA equals loops in double precision") { check_on_cuda(dropout_cases()); }
TEST_CASE("loss on CUDA equals loops in double precision") { check_on_cuda(loss_cases()); }
TEST_CASE("updates on CUDA equal loops in double precision") { check_on_cuda(update_cases()); }
TEST_CASE("attention on CUDA equals loops in double precision") {
  check_on_cuda(attention_cases());
}

}  // namespace normlab
