// Scalar formulas, shared by every device. Templates over float and double; the float version of
// exp is a polynomial that compilers turn into vector code (libm's is not).
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace normlab {

constexpr float kLog2OfE = 1.44269504f;

// e^x. float: within 2 ulp for x in [−87, 88], 0 below, inf above; Cody-Waite reduction and a
// degree-6 polynomial (minimax on [−ln2/2, ln2/2]; Cephes' expf).
constexpr float exponential(float x) {
  // A NaN takes the bound, so that its conversion to an integer is defined.
  const float above = x > -87.3f ? x : -87.3f;
  const float clamped = above < 88.7f ? above : 88.7f;
  // Rounds to the nearest integer without a library call.
  const float shifted = clamped * kLog2OfE + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t exponent = static_cast<int32_t>(n);
  // In two factors: 2^128 has no float.
  const int32_t half = exponent / 2;
  const float first = std::bit_cast<float>((half + 127) << 23);
  const float second = std::bit_cast<float>((exponent - half + 127) << 23);
  const float y = p * first * second;
  return x < -87.3f ? 0.0f : (x > 88.7f ? HUGE_VALF : (x == x ? y : x));
}
inline double exponential(double x) { return std::exp(x); }

template <typename Scalar>
constexpr Scalar sigmoid(Scalar x) {
  return 1 / (1 + exponential(-x));
}

template <typename Scalar>
constexpr Scalar kGeluScale = static_cast<Scalar>(0.79788456080286535588);  // √(2/π)

// The tanh approximation, x/2·(1 + tanh u), u = √(2/π)·(x + 0.044715x³), as x·sigmoid(2u): the same
// number, without the cancellation of 1 + tanh u in the negative tail.
template <typename Scalar>
constexpr Scalar gelu(Scalar x) {
  const Scalar inner = kGeluScale<Scalar> * (x + Scalar(0.044715) * x * x * x);
  return x * sigmoid(2 * inner);
}

template <typename Scalar>
constexpr Scalar gelu_derivative(Scalar x) {
  const Scalar inner = kGeluScale<Scalar> * (x + Scalar(0.044715) * x * x * x);
  const Scalar d_inner = kGeluScale<Scalar> * (1 + Scalar(3 * 0.044715) * x * x);
  // sigmoid(2u) and its slope from e^−|2u|: 1 − sigmoid cancels where x is large.
  const Scalar e = exponential(inner < 0 ? 2 * inner : -2 * inner);
  const Scalar larger = 1 / (1 + e);
  const Scalar sigmoid_there = x < 0 ? e * larger : larger;
  return sigmoid_there + x * (e * larger * larger) * 2 * d_inner;
}

template <typename Scalar>
constexpr Scalar silu(Scalar x) {
  return x * sigmoid(x);
}

template <typename Scalar>
constexpr Scalar silu_derivative(Scalar x) {
  const Scalar s = sigmoid(x);
  return s * (1 + x * (1 - s));
}

// f(u) of an elementwise norm and its derivative: tanh (dyt) or the error function (derf).
template <typename Scalar>
struct Squashed {
  Scalar value;
  Scalar slope;
};
template <typename Scalar>
constexpr Squashed<Scalar> squashed_tanh(Scalar u) {
  const Scalar value = std::tanh(u);
  return {value, (1 - value) * (1 + value)};
}
template <typename Scalar>
constexpr Squashed<Scalar> squashed_erf(Scalar u) {
  return {std::erf(u), Scalar(1.12837916709551257390) * exponential(-u * u)};  // 2/√π
}

// One element of an AdamW (decoupled) or Adam (coupled) update; Kingma & Ba 2015, algorithm 1, and
// Loshchilov & Hutter 2019, algorithm 2, with PyTorch's order of operations.
template <typename Scalar>
struct AdamStep {
  Scalar gradient_scale;  // of clipping
  Scalar beta2;
  // 1 − β, rounded once: 1 − 0.999f is 1.3e-5 away from 0.001.
  Scalar first_weight, second_weight;
  Scalar step_size;     // learning rate / (1 − β₁^t)
  Scalar inverse_root;  // 1 / √(1 − β₂^t)
  Scalar epsilon;
  Scalar decoupled_decay;  // value ← value · (1 − this), 0 = none
  Scalar coupled_decay;    // gradient += this · value, 0 = none

  constexpr void operator()(Scalar& value, Scalar& first, Scalar& second, Scalar gradient) const {
    const Scalar g = gradient * gradient_scale + coupled_decay * value;
    value -= decoupled_decay * value;
    first += first_weight * (g - first);
    second = beta2 * second + second_weight * g * g;
    value -= step_size * first / (std::sqrt(second) * inverse_root + epsilon);
  }
};

}  // namespace normlab
