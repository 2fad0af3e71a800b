#include "kernels/cpu/make_cpu_ops.h"

#include "kernels/cpu/cpu_check.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/rounding_ops.h"

namespace normlab {

std::unique_ptr<Ops> make_cpu_ops(Precision precision, int threads) {
  const std::string missing = missing_cpu_feature();
  if (!missing.empty()) throw Error("the processor lacks " + missing);
  switch (precision) {
    case Precision::fp32:
      return std::make_unique<CpuOps<float>>(threads);
    case Precision::bf16:
      return std::make_unique<RoundingOps>(std::make_unique<CpuOps<float>>(threads), threads);
    case Precision::fp64:
      return std::make_unique<CpuOps<double>>(threads);
  }
  throw Error("unknown precision");
}

}  // namespace normlab
