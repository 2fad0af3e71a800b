// GELU, SwiGLU, rotary positions, dropout.
#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/formula.h"
#include "kernels/random.h"
#include "kernels/rotation.h"

namespace normlab {
namespace {

constexpr int64_t kGrainRows = 8;
constexpr int64_t kRandomBlocks = 32;

// The words of consecutive random blocks, each in an array of its own: element_block() of
// kernels/random.h in vector registers, three times as fast as one block after the other.
struct RandomWords {
  uint32_t word0[kRandomBlocks], word1[kRandomBlocks], word2[kRandomBlocks], word3[kRandomBlocks];
};

RandomWords random_words(uint64_t key, uint32_t tensor, uint64_t first_block) {
  RandomWords words;
  for (int64_t i = 0; i < kRandomBlocks; ++i) {
    const uint64_t block = first_block + static_cast<uint64_t>(i);
    words.word0[i] = static_cast<uint32_t>(block);
    words.word1[i] = static_cast<uint32_t>(block >> 32);
    words.word2[i] = tensor;
    words.word3[i] = 0;
  }
  for (int round = 0; round < kPhiloxRounds; ++round) {
#pragma omp simd
    for (int64_t i = 0; i < kRandomBlocks; ++i) {
      philox_round(words.word0[i], words.word1[i], words.word2[i], words.word3[i], key, round);
    }
  }
  return words;
}

}  // namespace

template <typename Scalar>
void CpuOps<Scalar>::gelu_forward(Tensor y, ConstTensor x) {
  Scalar* out = y.as<Scalar>();
  const Scalar* in = x.as<Scalar>();
  parallel_ranges(threads_, y.rows(), kGrainRows, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) {
      Scalar* o = out + row * y.row_stride;
      const Scalar* i = in + row * x.row_stride;
#pragma omp simd
      for (int64_t c = 0; c < y.columns(); ++c) o[c] = gelu(i[c]);
    }
  });
}

template <typename Scalar>
void CpuOps<Scalar>::gelu_backward(Tensor d_x, ConstTensor d_y, ConstTensor x) {
  Scalar* out = d_x.as<Scalar>();
  const Scalar* gradient = d_y.as<Scalar>();
  const Scalar* in = x.as<Scalar>();
  parallel_ranges(threads_, d_x.rows(), kGrainRows, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) {
      Scalar* o = out + row * d_x.row_stride;
      const Scalar* g = gradient + row * d_y.row_stride;
      const Scalar* i = in + row * x.row_stride;
#pragma omp simd
      for (int64_t c = 0; c < d_x.columns(); ++c) o[c] = gelu_derivative(i[c]) * g[c];
    }
  });
}

template <typename Scalar>
void CpuOps<Scalar>::swiglu_forward(Tensor y, ConstTensor gate_up) {
  check(gate_up.columns() == 2 * y.columns(), "swiglu_forward: gate_up (N,2F) of y (N,F)");
  Scalar* out = y.as<Scalar>();
  const Scalar* in = gate_up.as<Scalar>();
  const int64_t width = y.columns();
  parallel_ranges(threads_, y.rows(), kGrainRows, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) {
      Scalar* o = out + row * y.row_stride;
      const Scalar* gate = in + row * gate_up.row_stride;
      const Scalar* up = gate + width;
#pragma omp simd
      for (int64_t c = 0; c < width; ++c) o[c] = silu(gate[c]) * up[c];
    }
  });
}

template <typename Scalar>
void CpuOps<Scalar>::swiglu_backward(Tensor d_gate_up, ConstTensor d_y, ConstTensor gate_up) {
  Scalar* out = d_gate_up.as<Scalar>();
  const Scalar* gradient = d_y.as<Scalar>();
  const Scalar* in = gate_up.as<Scalar>();
  const int64_t width = d_y.columns();
  parallel_ranges(threads_, d_y.rows(), kGrainRows, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) {
      Scalar* d_gate = out + row * d_gate_up.row_stride;
      Scalar* d_up = d_gate + width;
      const Scalar* g = gradient + row * d_y.row_stride;
      const Scalar* gate = in + row * gate_up.row_stride;
      const Scalar* up = gate + width;
#pragma omp simd
      for (int64_t c = 0; c < width; ++c) {
        // Both before either is stored, so that they share one sigmoid.
        const Scalar along_gate = g[c] * up[c] * silu_derivative(gate[c]);
        const Scalar along_up = g[c] * silu(gate[c]);
        d_gate[c] = along_gate;
        d_up[c] = along_up;
      }
    }
  });
}

template <typename Scalar>
void CpuOps<Scalar>::prepare_rotations(int64_t positions, int64_t head_size, double base) {
  if (rotation_positions_ >= positions && rotation_head_size_ == head_size &&
      rotation_base_ == base) {
    return;
  }
  // Generation asks for one position more each time.
  positions = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(positions)));
  const int64_t half = head_size / 2;
  cosines_.resize(static_cast<size_t>(positions * half));
  sines_.resize(static_cast<size_t>(positions * half));
  fill_rotations(cosines_.data(), sines_.data(), positions, head_size, base);
  rotation_positions_ = positions;
  rotation_head_size_ = head_size;
  rotation_base_ = base;
}

template <typename Scalar>
void CpuOps<Scalar>::rope(Tensor x, int64_t tokens, int64_t head_size, double base,
                          int64_t first_position, RopeDirection direction) {
  check(head_size % 2 == 0 && x.columns() % head_size == 0, "rope: x (B·T, heads·D), D even");
  prepare_rotations(first_position + tokens, head_size, base);
  const int64_t half = head_size / 2;
  const int64_t heads = x.columns() / head_size;
  const Scalar sign = direction == RopeDirection::forward ? 1 : -1;
  Scalar* data = x.as<Scalar>();
  parallel_ranges(threads_, x.rows(), kGrainRows, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) {
      const int64_t position = first_position + row % tokens;
      const Scalar* cosine = cosines_.data() + position * half;
      const Scalar* sine = sines_.data() + position * half;
      for (int64_t head = 0; head < heads; ++head) {
        Scalar* low = data + row * x.row_stride + head * head_size;
        Scalar* high = low + half;
#pragma omp simd
        for (int64_t i = 0; i < half; ++i) {
          const Scalar a = low[i];
          const Scalar b = high[i];
          low[i] = a * cosine[i] - sign * sine[i] * b;
          high[i] = b * cosine[i] + sign * sine[i] * a;
        }
      }
    }
  });
}

template <typename Scalar>
void CpuOps<Scalar>::dropout_factors(Scalar* factors, const Dropout& dropout, int64_t sequence,
                                     int64_t first, int64_t count) const {
  const uint64_t key = sequence_key(state_.seed, state_.step,
                                    static_cast<uint64_t>(state_.first_sequence + sequence));
  const uint32_t threshold = dropout_threshold(dropout.probability);
  const Scalar kept = static_cast<Scalar>(1 / (1 - dropout.probability));
  const int64_t last = first + count;
  for (int64_t block = first / 4; block * 4 < last; block += kRandomBlocks) {
    const RandomWords words = random_words(key, dropout.tensor, static_cast<uint64_t>(block));
    Scalar kept_or_not[4 * kRandomBlocks];
    for (int64_t i = 0; i < kRandomBlocks; ++i) {
      kept_or_not[4 * i] = words.word0[i] >= threshold ? kept : Scalar(0);
      kept_or_not[4 * i + 1] = words.word1[i] >= threshold ? kept : Scalar(0);
      kept_or_not[4 * i + 2] = words.word2[i] >= threshold ? kept : Scalar(0);
      kept_or_not[4 * i + 3] = words.word3[i] >= threshold ? kept : Scalar(0);
    }
    const int64_t begin = std::max(first, block * 4);
    const int64_t end = std::min(last, (block + kRandomBlocks) * 4);
    std::copy(kept_or_not + (begin - block * 4), kept_or_not + (end - block * 4),
              factors + (begin - first));
  }
}

template <typename Scalar>
void CpuOps<Scalar>::dropout(Tensor y, ConstTensor x, int64_t batch, const Dropout& dropout) {
  check(batch > 0 && x.rows() % batch == 0, "dropout: rows of whole sequences");
  const int64_t tokens = x.rows() / batch;
  const int64_t width = x.columns();
  Scalar* out = y.as<Scalar>();
  const Scalar* in = x.as<Scalar>();
  reserve_scratch(width);
  parallel_ranges(threads_, x.rows(), kGrainRows, [&](int64_t first, int64_t last, int thread) {
    Scalar* factors = scratch(thread);
    for (int64_t row = first; row < last; ++row) {
      dropout_factors(factors, dropout, row / tokens, row % tokens * width, width);
      Scalar* o = out + row * y.row_stride;
      const Scalar* i = in + row * x.row_stride;
      for (int64_t c = 0; c < width; ++c) o[c] = i[c] * factors[c];
    }
  });
}

template class CpuOps<float>;
template class CpuOps<double>;

}  // namespace normlab
