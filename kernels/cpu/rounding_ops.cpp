#include "kernels/cpu/rounding_ops.h"

#include <vector>

#include "kernels/bfloat16.h"
#include "kernels/cpu/parallel.h"

namespace normlab {
namespace {

// Working tensors among a verb's arguments; each may be empty.
struct Read {
  ConstTensor tensor;
};
struct Written {
  Tensor tensor;
};
struct Updated {  // read and written
  Tensor tensor;
};

// body(place in the strided tensor, place in a contiguous copy of it, count), in elements.
template <typename Body>
void for_each_part(int threads, ConstTensor tensor, const Body& body) {
  constexpr int64_t kGrain = 1 << 15;
  const int64_t columns = tensor.columns();
  if (tensor.elements() <= kGrain) threads = 1;  // a team costs more than the copy
  if (tensor.contiguous()) {
    parallel_ranges(threads, tensor.elements(), kGrain,
                    [&](int64_t first, int64_t last, int) { body(first, first, last - first); });
    return;
  }
  parallel_for(threads, tensor.rows(),
               [&](int64_t row, int) { body(row * tensor.row_stride, row * columns, columns); });
}

void widen(int threads, float* floats, ConstTensor tensor) {
  const BFloat16* numbers = tensor.as<BFloat16>();
  for_each_part(threads, tensor, [&](int64_t from, int64_t to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) floats[to + i] = to_float(numbers[from + i]);
  });
}

void round_into(int threads, Tensor tensor, const float* floats) {
  BFloat16* numbers = tensor.as<BFloat16>();
  for_each_part(threads, tensor, [&](int64_t to, int64_t from, int64_t count) {
    for (int64_t i = 0; i < count; ++i) numbers[to + i] = round_to_bfloat16(floats[from + i]);
  });
}

// Copies begin on cache lines.
int64_t floats_of_copy(ConstTensor tensor) {
  constexpr int64_t kLine = 16;
  return (tensor.elements() + kLine - 1) / kLine * kLine;
}
// Floats that the copies of an argument take.
int64_t room_for(const Read& argument) { return floats_of_copy(argument.tensor); }
int64_t room_for(const Written& argument) { return floats_of_copy(argument.tensor); }
int64_t room_for(const Updated& argument) { return floats_of_copy(argument.tensor); }
int64_t room_for(const Norm& norm) { return floats_of_copy(norm.gain) + floats_of_copy(norm.bias); }
int64_t room_for(const ElementwiseNorm& norm) {
  return floats_of_copy(norm.gain) + floats_of_copy(norm.bias) + floats_of_copy(norm.slope) +
         floats_of_copy(norm.shift);
}
template <typename Other>
int64_t room_for(const Other&) {
  return 0;
}

// The float copies of one call. Each argument has its own, so that what aliases in the call does
// not alias in the exact one.
class FloatCopies {
 public:
  FloatCopies(std::byte* room, int threads) : free_(room), threads_(threads) {}

  ConstTensor operator()(const Read& argument) {
    const Tensor copy = take(argument.tensor);
    if (copy) widen(threads_, copy.as<float>(), argument.tensor);
    return copy;
  }
  Tensor operator()(const Written& argument) {
    const Tensor copy = take(argument.tensor);
    if (copy) written_.push_back({argument.tensor, copy});
    return copy;
  }
  Tensor operator()(const Updated& argument) {
    const Tensor copy = (*this)(Written{argument.tensor});
    if (copy) widen(threads_, copy.as<float>(), argument.tensor);
    return copy;
  }
  Norm operator()(Norm norm) {
    norm.gain = (*this)(Read{norm.gain});
    norm.bias = (*this)(Read{norm.bias});
    return norm;
  }
  ElementwiseNorm operator()(ElementwiseNorm norm) {
    for (ConstTensor* part : {&norm.gain, &norm.bias, &norm.slope, &norm.shift}) {
      *part = (*this)(Read{*part});
    }
    return norm;
  }
  template <typename Other>
  Other operator()(const Other& other) {
    return other;
  }

  void round_written() const {
    for (const auto& [target, copy] : written_) round_into(threads_, target, copy.as<float>());
  }

 private:
  struct Pair {
    Tensor target, copy;
  };

  Tensor take(ConstTensor like) {
    if (!like) return {};
    check(like.dtype == DType::bf16, "a tensor of the working type, bf16");
    const Tensor copy(free_, DType::f32, Shape{like.rows(), like.columns()});
    free_ += floats_of_copy(like) * size_of(DType::f32);
    return copy;
  }

  std::byte* free_;
  int threads_;
  std::vector<Pair> written_;
};

}  // namespace

RoundingOps::RoundingOps(std::unique_ptr<Ops> exact, int threads)
    : ForwardingOps(*exact),
      exact_(std::move(exact)),
      threads_(threads > 0 ? threads : default_threads()) {
  check(ops().working_type() == DType::f32, "RoundingOps: an exact Ops in float");
}

std::string RoundingOps::device_name() const { return exact_->device_name() + ", rounds to bf16"; }

template <typename Verb, typename... Arguments>
void RoundingOps::run(Verb verb, const Arguments&... arguments) {
  const int64_t bytes = (room_for(arguments) + ...) * size_of(DType::f32);
  if (bytes > room_.bytes()) {
    room_ = {};  // first: never two at a time
    room_ = ops().allocate(bytes);
  }
  FloatCopies copies(room_.data(), threads_);
  (ops().*verb)(copies(arguments)...);
  copies.round_written();
}

void RoundingOps::add(Tensor y, ConstTensor a, ConstTensor b) {
  if (y.dtype == gradient_type()) return ops().add(y, a, b);
  run(&Ops::add, Written{y}, Read{a}, Read{b});
}

void RoundingOps::scaled_sum(Tensor y, ConstTensor a, ConstTensor b, const SumFactors& factors) {
  run(&Ops::scaled_sum, Written{y}, Read{a}, Read{b}, factors);
}

void RoundingOps::embedding_forward(Tensor x, ConstTensor tokens, ConstTensor token_table,
                                    ConstTensor position_table, int64_t first_position) {
  run(&Ops::embedding_forward, Written{x}, tokens, Read{token_table}, Read{position_table},
      first_position);
}

void RoundingOps::embedding_backward(Tensor d_token_table, Tensor d_position_table, ConstTensor d_x,
                                     ConstTensor tokens) {
  run(&Ops::embedding_backward, d_token_table, d_position_table, Read{d_x}, tokens);
}

// The norm reads the rounded sum, as backward will.
void RoundingOps::residual_norm_forward(Tensor sum, Tensor normed, Tensor statistics,
                                        ConstTensor residual, ConstTensor branch,
                                        const Norm& norm) {
  check(!branch || sum, "residual_norm_forward: a sum where there is a branch");
  if (branch) {
    add(sum, residual, branch);
  } else if (sum && sum.data != residual.data) {
    copy(sum, residual);
  }
  run(&Ops::residual_norm_forward, Tensor{}, Written{normed}, statistics,
      Read{sum ? ConstTensor{sum} : residual}, ConstTensor{}, norm);
}

void RoundingOps::residual_norm_backward(Tensor d_sum, Tensor d_gain, Tensor d_bias,
                                         ConstTensor d_normed, ConstTensor d_residual,
                                         ConstTensor sum, ConstTensor statistics,
                                         const Norm& norm) {
  run(&Ops::residual_norm_backward, Written{d_sum}, d_gain, d_bias, Read{d_normed},
      Read{d_residual}, Read{sum}, statistics, norm);
}

void RoundingOps::elementwise_norm_forward(Tensor y, ConstTensor x, const ElementwiseNorm& norm) {
  run(&Ops::elementwise_norm_forward, Written{y}, Read{x}, norm);
}

void RoundingOps::elementwise_norm_backward(Tensor d_x,
                                            const ElementwiseNormGradients& d_parameters,
                                            ConstTensor d_y, ConstTensor d_residual, ConstTensor x,
                                            const ElementwiseNorm& norm) {
  run(&Ops::elementwise_norm_backward, Written{d_x}, d_parameters, Read{d_y}, Read{d_residual},
      Read{x}, norm);
}

void RoundingOps::scale_forward(Tensor y, ConstTensor x, ConstTensor factor) {
  run(&Ops::scale_forward, Written{y}, Read{x}, Read{factor});
}

void RoundingOps::scale_backward(Tensor d_x, Tensor d_factor, ConstTensor d_y, ConstTensor x,
                                 ConstTensor factor) {
  run(&Ops::scale_backward, Written{d_x}, d_factor, Read{d_y}, Read{x}, Read{factor});
}

void RoundingOps::gpas_forward(Tensor y, ConstTensor x, ConstTensor gate) {
  run(&Ops::gpas_forward, Written{y}, Read{x}, Read{gate});
}

void RoundingOps::gpas_backward(Tensor d_gate, ConstTensor d_y, ConstTensor x, ConstTensor gate) {
  run(&Ops::gpas_backward, d_gate, Read{d_y}, Read{x}, Read{gate});
}

void RoundingOps::add_std_loss(Tensor d_x, ConstTensor x, ConstTensor statistics,
                               ConstTensor tokens, ConstTensor lengths, const StdLoss& settings) {
  run(&Ops::add_std_loss, Updated{d_x}, Read{x}, statistics, tokens, lengths, settings);
}

void RoundingOps::linear_forward(Tensor y, ConstTensor x, ConstTensor weight, ConstTensor bias) {
  run(&Ops::linear_forward, Written{y}, Read{x}, Read{weight}, Read{bias});
}

void RoundingOps::linear_backward_input(Tensor d_x, ConstTensor d_y, ConstTensor weight) {
  run(&Ops::linear_backward_input, Written{d_x}, Read{d_y}, Read{weight});
}

void RoundingOps::linear_backward_weight(Tensor d_weight, Tensor d_bias, ConstTensor d_y,
                                         ConstTensor x) {
  run(&Ops::linear_backward_weight, d_weight, d_bias, Read{d_y}, Read{x});
}

void RoundingOps::gelu_forward(Tensor y, ConstTensor x) {
  run(&Ops::gelu_forward, Written{y}, Read{x});
}

void RoundingOps::gelu_backward(Tensor d_x, ConstTensor d_y, ConstTensor x) {
  run(&Ops::gelu_backward, Written{d_x}, Read{d_y}, Read{x});
}

void RoundingOps::swiglu_forward(Tensor y, ConstTensor gate_up) {
  run(&Ops::swiglu_forward, Written{y}, Read{gate_up});
}

void RoundingOps::swiglu_backward(Tensor d_gate_up, ConstTensor d_y, ConstTensor gate_up) {
  run(&Ops::swiglu_backward, Written{d_gate_up}, Read{d_y}, Read{gate_up});
}

void RoundingOps::rope(Tensor x, int64_t tokens, int64_t head_size, double base,
                       int64_t first_position, RopeDirection direction) {
  run(&Ops::rope, Updated{x}, tokens, head_size, base, first_position, direction);
}

void RoundingOps::attention_forward(Tensor z, Tensor lse, ConstTensor q, ConstTensor k,
                                    ConstTensor v, const AttentionShape& shape,
                                    const Dropout& dropout) {
  run(&Ops::attention_forward, Written{z}, lse, Read{q}, Read{k}, Read{v}, shape, dropout);
}

void RoundingOps::attention_backward(Tensor d_q, Tensor d_k, Tensor d_v, ConstTensor d_z,
                                     ConstTensor z, ConstTensor lse, ConstTensor q, ConstTensor k,
                                     ConstTensor v, const AttentionShape& shape,
                                     const Dropout& dropout) {
  run(&Ops::attention_backward, Written{d_q}, Written{d_k}, Written{d_v}, Read{d_z}, Read{z}, lse,
      Read{q}, Read{k}, Read{v}, shape, dropout);
}

void RoundingOps::dropout(Tensor y, ConstTensor x, int64_t batch, const Dropout& dropout) {
  run(&Ops::dropout, Written{y}, Read{x}, batch, dropout);
}

void RoundingOps::cross_entropy_forward(Tensor losses, ConstTensor logits, ConstTensor targets) {
  run(&Ops::cross_entropy_forward, losses, Read{logits}, targets);
}

void RoundingOps::cross_entropy_backward(Tensor losses, Tensor logits, ConstTensor targets) {
  run(&Ops::cross_entropy_backward, losses, Updated{logits}, targets);
}

void RoundingOps::round_weights(Tensor value, ConstTensor master) {
  check(value.elements() == master.elements() && master.contiguous(),
        "round_weights: value and master (1,n)");
  round_into(threads_, value, master.as<float>());
}

void RoundingOps::adamw(Tensor value, Tensor master, Tensor first_moment, Tensor second_moment,
                        ConstTensor gradient, const AdamW& settings) {
  check(master && value.elements() == master.elements(), "adamw: a master for each value");
  if (!download_step_result().finite) return;
  ops().adamw(master, {}, first_moment, second_moment, gradient, settings);
  round_weights(value, master);
}

}  // namespace normlab
