// Dropout's random numbers in a kernel: the same as on every device (kernels/random.h).
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/ops.h"
#include "kernels/random.h"

namespace normlab {

struct DropoutArguments {
  uint32_t tensor = 0;
  uint32_t threshold = 0;  // a word is kept when it is at least this
  float kept = 1;          // 1/(1 − p)
};

inline DropoutArguments dropout_arguments(const Dropout& dropout) {
  return {dropout.tensor, dropout_threshold(dropout.probability),
          static_cast<float>(1 / (1 - dropout.probability))};
}

// The key of a sequence of the micro-batch.
__device__ __forceinline__ uint64_t sequence_key_of(const StepState& step, int64_t sequence) {
  return sequence_key(step.seed, step.step, static_cast<uint64_t>(step.first_sequence + sequence));
}

// Factors 0 or 1/(1 − p) of kWidth elements of a sequence from `first`, which is a multiple of
// kWidth; kWidth is 1 or a multiple of 4.
template <int kWidth>
__device__ __forceinline__ void dropout_factors(float (&factors)[kWidth],
                                                const DropoutArguments& dropout, uint64_t key,
                                                int64_t first) {
  const auto element = static_cast<uint64_t>(first);
  if constexpr (kWidth == 1) {
    const RandomBlock block = element_block(key, dropout.tensor, element / 4);
    const uint64_t word = element % 4;
    const uint32_t drawn =
        word < 2 ? (word == 0 ? block[0] : block[1]) : (word == 2 ? block[2] : block[3]);
    factors[0] = drawn >= dropout.threshold ? dropout.kept : 0.0f;
  } else {
#pragma unroll
    for (int i = 0; i < kWidth / 4; ++i) {
      const RandomBlock block =
          element_block(key, dropout.tensor, element / 4 + static_cast<uint64_t>(i));
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        factors[4 * i + word] = block[word] >= dropout.threshold ? dropout.kept : 0.0f;
      }
    }
  }
}

}  // namespace normlab
