// Attention on CUDA in the ways that the table of operators (op_table_test.cpp) leaves out: rows of
// whole vectors, head sizes that no kernel is compiled for, and lengths at which every buffer comes
// round several times.
#include "catch.h"
#include "tests/op_cases_attention.h"
#include "tests/op_check.h"

namespace normlab {
namespace {

// The table's rows have paddings that force element by element; these are read in whole vectors.
OpCase in_vectors(OpCase op_case) {
  constexpr int64_t kVector = 8;
  for (HostMatrix& matrix : op_case.tensors.all()) matrix.padding = kVector;
  op_case.name += ", in vectors";
  return op_case;
}

void check_both_accesses(const OpCase& op_case) {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    check_equals_reference({op_case, in_vectors(op_case)}, *make_ops(Device::cuda, precision));
  }
}

OpCase sized_case(const AttentionShape& shape, double dropout = 0) {
  return attention_case("attention of " + std::to_string(shape.query_tokens) + " by " +
                            std::to_string(shape.key_tokens) +
                            ", D = " + std::to_string(shape.head_size),
                        2e-6, {.shape = shape, .dropout = dropout});
}

}  // namespace

TEST_CASE("attention on CUDA: rows of whole vectors") {
  std::vector<OpCase> cases = attention_cases();
  for (OpCase& op_case : cases) op_case = in_vectors(op_case);
  check_equals_reference(cases, *make_ops(Device::cuda, Precision::bf16));
}

TEST_CASE("attention on CUDA: head sizes that no kernel is compiled for") {
  for (const int64_t size : {1, 8, 20, 24, 33, 56, 72, 88, 96, 104, 127}) {
    check_both_accesses(sized_case({1, 35, 35, 2, 1, size}));
  }
  // The tensors begin with whole vectors, every other head does not.
  check_both_accesses(sized_case({1, 35, 35, 4, 2, 12}));
  for (const int64_t size : {3, 40, 100, 128}) {
    check_both_accesses(sized_case({1, 35, 35, 2, 1, size}, 0.5));
  }
}

TEST_CASE("attention on CUDA: lengths about the edges of tiles") {
  for (const int64_t tokens : {2, 16, 31, 32, 33, 63, 64, 127, 128, 129}) {
    check_both_accesses(sized_case({1, tokens, tokens, 2, 1, 16}));
  }
  for (const int64_t tokens : {3, 32, 33, 64, 66, 127}) {
    check_both_accesses(sized_case({1, tokens, tokens, 2, 1, 16}, 0.5));
  }
}

TEST_CASE("attention on CUDA: buffers come round several times") {
  const auto ops = make_ops(Device::cuda, Precision::bf16);
  for (const int64_t size : {32, 128}) {
    check_equals_reference(
        {in_vectors(sized_case({1, 420, 420, 2, 1, size})), sized_case({1, 420, 420, 1, 1, size}),
         in_vectors(sized_case({1, 390, 390, 2, 1, size}, 0.5))},
        *ops);
  }
}

TEST_CASE("attention on CUDA: fewer queries than keys") {
  const auto apart = [](const AttentionShape& shape, double dropout) {
    return attention_case("attention, more keys", 2e-6,
                          {.shape = shape, .dropout = dropout, .layout = AttentionLayout::apart});
  };
  for (const double dropout : {0.0, 0.5}) {
    check_both_accesses(apart({2, 1, 2, 4, 2, 32}, dropout));
    check_both_accesses(apart({2, 5, 131, 2, 1, 64}, dropout));
    check_both_accesses(apart({1, 130, 450, 2, 1, 24}, dropout));
  }
}

TEST_CASE("attention on CUDA: sequences and groups of heads are told apart") {
  for (const double dropout : {0.0, 0.5}) {
    check_both_accesses(sized_case({3, 37, 37, 6, 3, 16}, dropout));
    check_both_accesses(sized_case({2, 37, 37, 5, 1, 16}, dropout));
    check_both_accesses(sized_case({2, 70, 70, 3, 3, 8}, dropout));
  }
}

TEST_CASE("attention on CUDA: scores of ±80 and far beyond") {
  check_both_accesses(attention_case("attention, deviation 9", 5e-5,
                                     {.shape = {1, 70, 70, 2, 1, 64}, .fill = {.deviation = 9}}));
  // Scores of thousands: float has their thousandths. Forward alone: backward feels how z was
  // rounded.
  check_both_accesses(attention_case("attention, deviation 40", 5e-4,
                                     {.shape = {1, 70, 90, 2, 1, 64},
                                      .layout = AttentionLayout::apart,
                                      .fill = {.deviation = 40}}));
}

// At the first token there is one probability: a query that loses it has a z of 0, and its lse all
// the same.
TEST_CASE("attention on CUDA: rows of which dropout leaves nothing") {
  check_both_accesses(sized_case({4, 9, 9, 4, 2, 16}, 0.9));
  check_both_accesses(sized_case({4, 1, 1, 8, 2, 16}, 0.9));
}

TEST_CASE("attention on CUDA: the same bits each time") {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    const auto one = make_ops(Device::cuda, precision);
    const auto other = make_ops(Device::cuda, precision);
    for (const double dropout : {0.0, 0.5}) {
      const OpCase op_case = sized_case({2, 75, 75, 4, 2, 48}, dropout);
      CHECK(different_bits(op_case, *one, *other).empty());
      CHECK(different_bits(op_case, *one, *one).empty());
    }
  }
}

TEST_CASE("attention on CUDA: no sequences change nothing") {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    check_equals_reference({sized_case({0, 4, 4, 2, 1, 16})}, *make_ops(Device::cuda, precision));
  }
}

TEST_CASE("attention on CUDA: a head that is too large is refused") {
  const OpCase op_case = sized_case({1, 2, 2, 1, 1, 136});
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    const auto ops = make_ops(Device::cuda, precision);
    std::string message;
    try {
      deviations(op_case, *ops);
    } catch (const Error& error) {
      message = error.what();
    }
    CHECK(message.find("heads of 136") != std::string::npos);
  }
}

}  // namespace normlab
