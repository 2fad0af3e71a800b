#include "kernels/cpu/make_cpu_ops.h"

#include "kernels/bf16_gradients_ops.h"
#include "kernels/bfloat16.h"
#include "kernels/cpu/cpu_check.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/pure_bf16.h"
#include "kernels/cpu/rounding_ops.h"

namespace normlab {

namespace {

std::unique_ptr<Ops> make_rounding_ops(int threads) {
  return std::make_unique<RoundingOps>(std::make_unique<CpuOps<float>>(threads), threads);
}

std::unique_ptr<Ops> with_bf16_gradients(std::unique_ptr<Ops> rounding, int threads) {
  return std::make_unique<Bf16GradientsOps>(
      std::move(rounding), [threads](Tensor sum, ConstTensor more) {
        const int all = threads > 0 ? threads : default_threads();
        parallel_for(all, sum.rows(), [&](int64_t row, int) {
          float* to = sum.as<float>() + row * sum.row_stride;
          const float* from = more.as<float>() + row * more.row_stride;
          for (int64_t i = 0; i < sum.columns(); ++i) to[i] = rounded(to[i] + rounded(from[i]));
        });
      });
}

}  // namespace

std::unique_ptr<Ops> make_cpu_ops(Precision precision, int threads) {
  const std::string missing = missing_cpu_feature();
  if (!missing.empty()) throw Error("the processor lacks " + missing);
  switch (precision) {
    case Precision::fp32:
      return std::make_unique<CpuOps<float>>(threads);
    case Precision::bf16:
      return make_rounding_ops(threads);
    case Precision::pure_bf16_weights:
      return std::make_unique<Bf16WeightsOps>(make_rounding_ops(threads), threads);
    case Precision::pure_bf16_gradients:
      return std::make_unique<Bf16WeightsOps>(
          with_bf16_gradients(make_rounding_ops(threads), threads), threads);
    case Precision::pure_bf16_forward:
      return std::make_unique<Bf16WeightsOps>(
          with_bf16_gradients(std::make_unique<Bf16ForwardOps>(make_rounding_ops(threads), threads),
                              threads),
          threads);
    case Precision::fp64:
      return std::make_unique<CpuOps<double>>(threads);
  }
  throw Error("unknown precision");
}

}  // namespace normlab
