"""Mistakes in training in bf16 alone, which its tests must notice."""

KERNELS = "test_kernels"
ADAM = "kernels/pure_adam.h"
RULES = "kernels/pure_bf16_rules.h"
WEIGHTS = "kernels/cpu/pure_bf16_weights.cpp"
GRADIENTS = "kernels/cpu/make_cpu_ops.cpp"
CUDA = "test_cuda"
ON_CUDA = "kernels/cuda/pure_bf16.cu"
CUDA_ROWS = "kernels/cuda/pure_bf16_rows.cu"
FORWARD = "kernels/cpu/pure_bf16_forward.cpp"
UPDATE = "pure bf16: an update*"
SUMS = "pure bf16: gradients are rounded*"
NORM = "pure bf16: a norm rounds*"
ROPE = "pure bf16: rotary*"
SILU = "pure bf16: silu*"
LOSS = "pure bf16: log-probabilities*"

# name, test program, Catch2's filter, file, text that occurs once, what it becomes
PURE_BF16_MISTAKES = [
    ("pure bf16: v decays in float", KERNELS, UPDATE, ADAM,
     "rounded(v * beta2)", "v * beta2"),
    ("pure bf16: v is a float", KERNELS, "pure bf16: v never decays*", ADAM,
     "v = rounded(std::fma(second_weight * g, g, rounded(v * beta2)));",
     "v = std::fma(second_weight * g, g, v * beta2);"),
    ("pure bf16: the root is not rounded", KERNELS, UPDATE, ADAM,
     "rounded(std::sqrt(v))", "std::sqrt(v)"),
    ("pure bf16: epsilon under the root's correction", KERNELS, UPDATE, ADAM,
     "rounded(rounded(rounded(std::sqrt(v)) / root) + epsilon)",
     "rounded((rounded(rounded(std::sqrt(v)) + epsilon)) / root)"),
    ("pure bf16: the gradient enters in full", KERNELS, "pure bf16: a gradient that is clipped*",
     ADAM, "    g = rounded(g);\n", ""),
    ("pure bf16: an update that is not finite", KERNELS, "pure bf16: a gradient that is clipped*",
     WEIGHTS, "  if (!state_.finite) return;\n", ""),
    ("pure bf16: what a pass adds is not rounded", KERNELS, SUMS, GRADIENTS,
     "rounded(to[i] + rounded(from[i]))", "rounded(to[i] + from[i])"),
    ("pure bf16: the sum of passes is not rounded", KERNELS, SUMS, GRADIENTS,
     "rounded(to[i] + rounded(from[i]))", "to[i] + rounded(from[i])"),
    ("pure bf16: x/rms is not rounded before its gain", KERNELS, NORM, FORWARD,
     "return rounded(to_float(x) * inverse);", "return to_float(x) * inverse;"),
    ("pure bf16: LayerNorm Scaling's product is not rounded by itself", KERNELS, NORM, FORWARD,
     "const float product = rounded(to_float(gain[c]) * normalized(in[c], inverse));",
     "const float product = to_float(gain[c]) * normalized(in[c], inverse);"),
    ("pure bf16: the gradient of 1/rms comes before what passes the norm", KERNELS, NORM, FORWARD,
     "if (d_residual) d = rounded(to_float(row_of(d_residual, row)[c]) + d);",
     "if (d_residual) d += to_float(row_of(d_residual, row)[c]);"),
    ("pure bf16: sines in full", KERNELS, ROPE, RULES,
     "rounded(std::sin(angle))", "std::sin(angle)"),
    ("pure bf16: silu is not rounded", KERNELS, SILU, FORWARD,
     "const float activated = rounded(silu(to_float(gate[c])));",
     "const float activated = silu(to_float(gate[c]));"),
    ("pure bf16: log-probabilities in full", KERNELS, LOSS, FORWARD,
     "return rounded(to_float(logits_[c]) - largest_ - log_sum_);",
     "return to_float(logits_[c]) - largest_ - log_sum_;"),
    ("pure bf16: the loss of a pass in full", KERNELS, LOSS, RULES,
     "static_cast<double>(rounded(static_cast<float>(scale * sum)))", "scale * sum"),
    ("pure bf16: the scale of the loss in full", KERNELS, LOSS, RULES,
     "return rounded(weight / rounded(static_cast<float>(count)));",
     "return weight / rounded(static_cast<float>(count));"),
    ("pure bf16: the count of targets in full", KERNELS, LOSS, RULES,
     "return rounded(weight / rounded(static_cast<float>(count)));",
     "return rounded(weight / static_cast<float>(count));"),
    ("pure bf16: the terms of a sum in full", KERNELS, "pure bf16: a sum with factors*", FORWARD,
     "rounded(of_a * to_float(one[c])) + rounded(of_b * to_float(other[c]))",
     "of_a * to_float(one[c]) + of_b * to_float(other[c])"),
    ("pure bf16 on CUDA: what a pass adds is not rounded", CUDA, "pure bf16 on CUDA: gradients*",
     ON_CUDA, "stored(to[i] + stored(from[i]))", "to[i] + stored(from[i])"),
    ("pure bf16 on CUDA: the terms of a sum in full", CUDA, "pure bf16 on CUDA: a sum*", ON_CUDA,
     "stored(of_a * left[i]) + stored(of_b * right[i])", "of_a * left[i] + of_b * right[i]"),
    ("pure bf16 on CUDA: silu is not rounded", CUDA, "pure bf16 on CUDA: silu*", ON_CUDA,
     "up[i] *= stored(silu(gate[i]));", "up[i] *= silu(gate[i]);"),
    ("pure bf16 on CUDA: an update that is not finite", CUDA, "pure bf16 on CUDA: a gradient*",
     ON_CUDA, "  if (!state->finite) return;\n", ""),
    ("pure bf16 on CUDA: x/rms is not rounded before its gain", CUDA, "pure bf16 on CUDA: a norm*",
     CUDA_ROWS, "return stored(number(x[row] + column) * statistics[row][1]);",
     "return number(x[row] + column) * statistics[row][1];"),
    ("pure bf16 on CUDA: the gradient of 1/rms comes before what passes the norm", CUDA,
     "pure bf16 on CUDA: a norm*", CUDA_ROWS,
     "d = stored(number(d_residual[row] + column) + d);", "d += number(d_residual[row] + column);"),
    ("pure bf16 on CUDA: log-probabilities in full", CUDA, "pure bf16 on CUDA: log*", CUDA_ROWS,
     "return stored(logit - largest - log_sum);", "return logit - largest - log_sum;"),
]
