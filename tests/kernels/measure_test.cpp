// Hidden; test_kernels "[measure]" prints how far each row of the table is from its loop.
#include <algorithm>
#include <cstdio>

#include "catch.h"
#include "tests/op_check.h"

namespace normlab {
namespace {

TEST_CASE("largest error of each row of the table", "[.][measure]") {
  const auto single = make_ops(Device::cpu, Precision::fp32, 2);
  const auto twice = make_ops(Device::cpu, Precision::fp64, 2);
  for (const OpCase& op_case : all_op_cases()) {
    const std::vector<Deviation> in_float = deviations(op_case, *single);
    const std::vector<Deviation> in_double = deviations(op_case, *twice);
    for (size_t i = 0; i < in_float.size(); ++i) {
      std::printf("%-50s %-16s %9.1e (float, bound %.0e) %9.1e (double)\n", op_case.name.c_str(),
                  in_float[i].tensor.c_str(), in_float[i].error, op_case.bound, in_double[i].error);
    }
    CHECK(!in_float.empty());
  }
}

}  // namespace
}  // namespace normlab
