#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/bfloat16.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/pure_bf16.h"
#include "kernels/formula.h"
#include "kernels/pure_bf16_rules.h"

namespace normlab {
namespace {

constexpr int64_t kGrainRows = 8;

const BFloat16* row_of(ConstTensor tensor, int64_t row) {
  return tensor.as<BFloat16>() + row * tensor.row_stride;
}
BFloat16* row_of(Tensor tensor, int64_t row) {
  return tensor.as<BFloat16>() + row * tensor.row_stride;
}

// x/rms of an element, as it goes into the product with the gain.
float normalized(BFloat16 x, float inverse) { return rounded(to_float(x) * inverse); }

float inverse_of(ConstTensor statistics, int64_t row) {
  return statistics.as<float>()[row * statistics.row_stride + 1];
}

// LayerNorm Scaling multiplies what the norm gives; its gradient comes back through that product.
float scaled(float x, const Norm& norm) {
  return norm.scale == 1 ? x : rounded(x * static_cast<float>(norm.scale));
}

// log softmax, rounded, of a row's elements.
class LogProbabilities {
 public:
  LogProbabilities(const BFloat16* logits, int64_t count) : logits_(logits) {
    for (int64_t c = 0; c < count; ++c) largest_ = std::max(largest_, to_float(logits[c]));
    double sum = 0;
    for (int64_t c = 0; c < count; ++c) {
      sum += static_cast<double>(std::exp(to_float(logits[c]) - largest_));
    }
    log_sum_ = static_cast<float>(std::log(sum));
  }
  float operator[](int64_t c) const { return rounded(to_float(logits_[c]) - largest_ - log_sum_); }

 private:
  const BFloat16* logits_;
  float largest_ = -INFINITY;
  float log_sum_ = 0;
};

}  // namespace

Bf16ForwardOps::Bf16ForwardOps(std::unique_ptr<Ops> rounding, int threads)
    : ForwardingOps(*rounding),
      owned_(std::move(rounding)),
      threads_(threads > 0 ? threads : default_threads()) {}

void Bf16ForwardOps::scaled_sum(Tensor y, ConstTensor a, ConstTensor b, const SumFactors& factors) {
  if (!b) {
    ops().scaled_sum(y, a, b, factors);
    return;
  }
  const auto of_a = static_cast<float>(factors.a), of_b = static_cast<float>(factors.b);
  parallel_ranges(threads_, y.rows(), kGrainRows, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) {
      const BFloat16* one = row_of(a, row);
      const BFloat16* other = row_of(b, row);
      for (int64_t c = 0; c < y.columns(); ++c) {
        const float sum = rounded(of_a * to_float(one[c])) + rounded(of_b * to_float(other[c]));
        row_of(y, row)[c] = round_to_bfloat16(sum);
      }
    }
  });
}

void Bf16ForwardOps::residual_norm_forward(Tensor sum, Tensor normed, Tensor statistics,
                                           ConstTensor residual, ConstTensor branch,
                                           const Norm& norm) {
  ops().residual_norm_forward(sum, normed, statistics, residual, branch, norm);
  if (!is_reference_norm(norm)) return;
  const ConstTensor x = sum ? ConstTensor(sum) : residual;
  const BFloat16* gain = norm.gain.as<BFloat16>();
  parallel_ranges(threads_, x.rows(), kGrainRows, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) {
      const BFloat16* in = row_of(x, row);
      BFloat16* out = row_of(normed, row);
      const float inverse = inverse_of(statistics, row);
      for (int64_t c = 0; c < x.columns(); ++c) {
        const float product = rounded(to_float(gain[c]) * normalized(in[c], inverse));
        out[c] = round_to_bfloat16(scaled(product, norm));
      }
    }
  });
}

// Autograd adds, each time rounded: what came past the norm, then x's part of x·(1/rms), then that
// of 1/rms, whose gradient is in float.
void Bf16ForwardOps::residual_norm_backward(Tensor d_sum, Tensor d_gain, Tensor d_bias,
                                            ConstTensor d_normed, ConstTensor d_residual,
                                            ConstTensor sum, ConstTensor statistics,
                                            const Norm& norm) {
  if (!is_reference_norm(norm)) {
    ops().residual_norm_backward(d_sum, d_gain, d_bias, d_normed, d_residual, sum, statistics,
                                 norm);
    return;
  }
  const int64_t width = sum.columns();
  const BFloat16* gain = norm.gain.as<BFloat16>();
  constexpr int64_t kGrainColumns = 64;
  parallel_ranges(threads_, width, kGrainColumns, [&](int64_t first, int64_t last, int) {
    for (int64_t c = first; c < last; ++c) {
      float total = 0;
      for (int64_t row = 0; row < sum.rows(); ++row) {
        const float d_product = scaled(to_float(row_of(d_normed, row)[c]), norm);
        total += rounded(d_product * normalized(row_of(sum, row)[c], inverse_of(statistics, row)));
      }
      d_gain.as<float>()[c] += total;
    }
  });
  parallel_ranges(threads_, sum.rows(), kGrainRows, [&](int64_t first, int64_t last, int) {
    std::vector<float> d_normalized(static_cast<size_t>(width));
    for (int64_t row = first; row < last; ++row) {
      const BFloat16* x = row_of(sum, row);
      const float inverse = inverse_of(statistics, row);
      float projection = 0;
      for (int64_t c = 0; c < width; ++c) {
        const float d_product = scaled(to_float(row_of(d_normed, row)[c]), norm);
        float& d = d_normalized[static_cast<size_t>(c)];
        d = rounded(d_product * to_float(gain[c]));
        projection += d * to_float(x[c]);
      }
      const float d_variance = -0.5F * projection * (inverse * inverse * inverse);
      for (int64_t c = 0; c < width; ++c) {
        float d = rounded(d_normalized[static_cast<size_t>(c)] * inverse);
        if (d_residual) d = rounded(to_float(row_of(d_residual, row)[c]) + d);
        const float through_mean = d_variance / static_cast<float>(width) * (2 * to_float(x[c]));
        row_of(d_sum, row)[c] = round_to_bfloat16(d + rounded(through_mean));
      }
    }
  });
}

void Bf16ForwardOps::swiglu_forward(Tensor y, ConstTensor gate_up) {
  const int64_t width = y.columns();
  check(gate_up.columns() == 2 * width, "swiglu_forward: gate_up (N,2F) of y (N,F)");
  parallel_ranges(threads_, y.rows(), kGrainRows, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) {
      const BFloat16* gate = row_of(gate_up, row);
      for (int64_t c = 0; c < width; ++c) {
        const float activated = rounded(silu(to_float(gate[c])));
        row_of(y, row)[c] = round_to_bfloat16(activated * to_float(gate[width + c]));
      }
    }
  });
}

void Bf16ForwardOps::swiglu_backward(Tensor d_gate_up, ConstTensor d_y, ConstTensor gate_up) {
  const int64_t width = d_y.columns();
  parallel_ranges(threads_, d_y.rows(), kGrainRows, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) {
      BFloat16* d_gate = row_of(d_gate_up, row);
      for (int64_t c = 0; c < width; ++c) {
        const float gradient = to_float(row_of(d_y, row)[c]);
        const float gate = to_float(row_of(gate_up, row)[c]);
        const float up = to_float(row_of(gate_up, row)[width + c]);
        const float d_activated = rounded(gradient * up);
        d_gate[c] = round_to_bfloat16(d_activated * silu_derivative(gate));
        d_gate[width + c] = round_to_bfloat16(gradient * rounded(silu(gate)));
      }
    }
  });
}

void Bf16ForwardOps::rope(Tensor x, int64_t tokens, int64_t head_size, double base,
                          int64_t first_position, RopeDirection direction) {
  check(head_size % 2 == 0 && x.columns() % head_size == 0, "rope: x (B·T, heads·D), D even");
  const int64_t half = head_size / 2;
  const float sign = direction == RopeDirection::forward ? 1 : -1;
  const auto table = static_cast<size_t>(tokens * half);
  std::vector<float> cosines(table), sines(table);
  fill_pure_rotations(cosines.data(), sines.data(), first_position, tokens, head_size, base);
  parallel_ranges(threads_, x.rows(), kGrainRows, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) {
      const float* cosine = cosines.data() + row % tokens * half;
      const float* sine = sines.data() + row % tokens * half;
      for (int64_t head = 0; head < x.columns() / head_size; ++head) {
        BFloat16* low = row_of(x, row) + head * head_size;
        BFloat16* high = low + half;
        for (int64_t i = 0; i < half; ++i) {
          const float a = to_float(low[i]);
          const float b = to_float(high[i]);
          low[i] = round_to_bfloat16(rounded(a * cosine[i]) - sign * rounded(b * sine[i]));
          high[i] = round_to_bfloat16(rounded(b * cosine[i]) + sign * rounded(a * sine[i]));
        }
      }
    }
  });
}

void Bf16ForwardOps::cross_entropy_forward(Tensor losses, ConstTensor logits, ConstTensor targets) {
  const int32_t* target = targets.as<int32_t>();
  parallel_for(threads_, logits.rows(), [&](int64_t row, int) {
    float& loss = losses.as<float>()[row];
    loss = 0;
    if (target[row] < 0) return;
    loss = -LogProbabilities(row_of(logits, row), logits.columns())[target[row]];
  });
}

void Bf16ForwardOps::cross_entropy_backward(Tensor losses, Tensor logits, ConstTensor targets) {
  cross_entropy_forward(losses, logits, targets);
  const int32_t* target = targets.as<int32_t>();
  check(state_.scored_tokens > 0 || state_.loss_scale == 0, "the targets of a pass are counted");
  const float scale = gradient_scale(state_);
  parallel_for(threads_, logits.rows(), [&](int64_t row, int) {
    BFloat16* x = row_of(logits, row);
    if (target[row] < 0) {
      std::fill(x, x + logits.columns(), BFloat16{});
      return;
    }
    const LogProbabilities found(x, logits.columns());
    for (int64_t c = 0; c < logits.columns(); ++c) {
      const float target_part = c == target[row] ? scale : 0.0F;
      x[c] = round_to_bfloat16(std::exp(found[c]) * scale - target_part);
    }
  });
}

void Bf16ForwardOps::set_step_state(const StepState& state) {
  state_ = state;
  ops().set_step_state(state);
}

// A pass adds its mean loss divided by the number of passes: as many bits are left as in the
// reference where that is a power of two.
void Bf16ForwardOps::add_loss(ConstTensor losses) {
  if (room_.bytes() == 0) room_ = ops().allocate(size_of(DType::f32));
  double sum = 0;
  for (int64_t row = 0; row < losses.rows(); ++row) {
    sum += static_cast<double>(losses.as<float>()[row * losses.row_stride]);
  }
  const Tensor one(room_.data(), DType::f32, {1, 1});
  *one.as<float>() = rounded_loss(state_.loss_scale, sum);
  ops().add_loss(one);
}

}  // namespace normlab
