// Kernels keep to what the least of the supported architectures has.
#include "catch.h"
#include "tests/emulator/emulator.h"
#include "tests/op_cases_attention.h"
#include "tests/op_check.h"

namespace normlab {

TEST_CASE("limits: attention takes no more shared memory than sm_86 has") {
  const emulator::Settings before = emulator::settings();
  emulator::Settings settings = before;
  settings.architecture = 86;
  emulator::configure(settings);
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    const auto ops = make_ops(Device::cuda, precision);
    for (const double dropout : {0.0, 0.5}) {
      for (const int64_t size : {32, 48, 64, 80, 96, 128}) {
        check_equals_reference(
            {attention_case("attention, D = " + std::to_string(size), 1e-6,
                            {.shape = {1, 3, 3, 1, 1, size}, .dropout = dropout})},
            *ops);
      }
    }
  }
  emulator::configure(before);
}

}  // namespace normlab
