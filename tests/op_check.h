// Runs rows of the table of operators (tests/op_cases.h) on an Ops, and checks what they give.
#pragma once

#include <string>
#include <vector>

#include "tests/op_cases.h"

namespace normlab {

struct Deviation {
  std::string tensor;
  double error = 0;  // largest difference as a share of the largest element
  double bound = 0;  // what it may be on that Ops
};

// The difference between a row run on `ops` and its loop in double, which begins with the numbers
// that `ops` holds, for each tensor that it changes. Throws Error where an input or padding has
// been written to.
std::vector<Deviation> deviations(const OpCase& op_case, Ops& ops);
// Of each gradient found by backward and its finite difference. `ops` must work in double.
std::vector<Deviation> gradient_deviations(const OpCase& op_case, Ops& ops);
// The names of tensors whose bits differ between two Ops.
std::vector<std::string> different_bits(const OpCase& op_case, Ops& one, Ops& other);

// Catch checks of all rows of a group, on one Ops.
void check_equals_reference(const std::vector<OpCase>& cases, Ops& ops);
// The same on the CPU: in float, in bf16 and in double.
void check_equals_reference(const std::vector<OpCase>& cases);
void check_equals_finite_differences(const std::vector<OpCase>& cases);
void check_threads_give_same_bits(const std::vector<OpCase>& cases);

}  // namespace normlab
