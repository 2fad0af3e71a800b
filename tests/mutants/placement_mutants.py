"""Mistakes in placements of norms and in the verbs they need, which their tests must notice."""

MODELS = "test_models"
GRADIENTS = "placements: gradients*"
GOLDEN = "placements: logits*"
VERBS = "placement verbs: equal*"
CUDA_VERBS = "placement verbs on CUDA*"
EXPORTS = "placements: LayerNorm Scaling and factors*"
STARTS = "placements: the stds at the start*"
PLAN = "models/norm_plan.cpp"
JOINT = "models/joint.cpp"
CPU = "kernels/cpu/placement.cpp"
CPU_ELEMENTWISE = "kernels/cpu/elementwise_norm.cpp"
CUDA = "kernels/cuda/placement.cu"
CUDA_ELEMENTWISE = "kernels/cuda/elementwise_norm.cu"
PLAIN = "engine/plain_model.cpp"

RECOMPUTED = "recompute: gradients*"

# name, test program, Catch2's filter, file, text that occurs once, what it becomes
PLACEMENT_MISTAKES = [
    ("recompute: the last layer's activations are taken for those of all", MODELS, RECOMPUTED,
     "models/model.cpp", "layer + 1 == structure_.mlp.size()", "layer + 1 <= structure_.mlp.size()"),
    ("recompute: what is computed again is shown again", MODELS, RECOMPUTED, "models/model.cpp",
     "  pass.probe = nullptr;\n", ""),
    ("recompute: attention is not computed again", MODELS, RECOMPUTED, "models/model.cpp",
     "if (workload_.recompute == Recompute::block) {", "if (false) {"),
    ("recompute: layers share their statistics", MODELS, RECOMPUTED, "models/structure.cpp",
     "  lay_out_shared(arena, 1, joints.size(), 2, lay_out);",
     "  lay_out_shared(arena, 1, joints.size(), 2, lay_out_both);"),
    ("lns: √l dropped", MODELS, "norm_plan: LayerNorm Scaling*", PLAN,
     "1 / std::sqrt(static_cast<double>(layer + 1))", "1.0"),
    ("lns: l is not under a root", MODELS, GOLDEN, PLAN,
     "1 / std::sqrt(static_cast<double>(layer + 1))", "1 / static_cast<double>(layer + 1)"),
    ("lns: the factor before a norm is lost", MODELS, GOLDEN, "models/norm_site.h",
     "pass.config.norm.epsilon / (input_scale * input_scale)", "pass.config.norm.epsilon"),
    ("lns: the residual keeps its size", MODELS, GOLDEN, PLAN,
     "exit.skip_scale = exit.branch_scale = factor;", "exit.branch_scale = factor;"),
    ("deepnorm: α of half the layers", MODELS, "norm_plan: DeepNorm*", PLAN,
     "std::pow(2.0 * static_cast<double>(layers), 0.25)",
     "std::pow(static_cast<double>(layers), 0.25)"),
    ("deepnorm: the gradient past a sublayer keeps its size", MODELS, GRADIENTS, JOINT,
     "if (factors_.skip != 1) pass.ops.scaled_sum(", "if (false) pass.ops.scaled_sum("),
    ("deepnorm: the gain is inverted", "test_engine", STARTS, "models/parameter.cpp",
     "config_.init.kind == InitKind::deepnorm ? -1 : 1",
     "config_.init.kind == InitKind::deepnorm ? 1 : -1"),
    ("sandwich: the norm of a branch has no gradient", MODELS, GRADIENTS, JOINT,
     "sites[*norms_.inside].backward(pass, d_branch, d_branch, {}, branch,",
     "if (false) sites[*norms_.inside].backward(pass, d_branch, d_branch, {}, branch,"),
    ("peri: the embedding has no norm", MODELS, "norm_plan: sandwich*", PLAN,
     "joints.front().after = PlannedNorm{NormRole::embedding, -1};", ""),
    ("a branch's factor has no part in its gradient", MODELS, GRADIENTS, JOINT,
     "{factors_.branch, 0}", "{1, 0}"),
    ("a learnt factor reads the branch before its norm", MODELS, GRADIENTS, JOINT,
     "norms_.inside ? first_rows(buffers_.inside, rows) : branch,", "branch,"),
    ("gpas: the gate reads the stream behind it", MODELS, GOLDEN, JOINT,
     "first_rows(buffers_.ungated, rows), pass.value(factors_.gate));",
     "residual(rows), pass.value(factors_.gate));"),
    ("scaled sum: the second factor is lost", "test_kernels", VERBS, CPU,
     "of_a * left[c] + of_b * right[c]", "of_a * left[c] + right[c]"),
    ("scale: the factor's gradient comes after d_y is overwritten", "test_kernels", VERBS, CPU,
     "  // Before d_x, which may take d_y's place.\n", "  scale_forward(d_x, d_y, factor);\n"),
    ("gpas: the gradient is that of the sigmoid", "test_kernels", VERBS, CPU,
     "-= silu_derivative(", "-= sigmoid("),
    ("dyt: the slope's gradient forgets x", "test_kernels", VERBS, CPU_ELEMENTWISE,
     "slope_sums[c] += inner * in[c];", "slope_sums[c] += inner;"),
    ("derf: the slope of tanh", "test_kernels", VERBS, CPU_ELEMENTWISE,
     "squashed_tanh(u) : squashed_erf(u)", "squashed_tanh(u) : squashed_tanh(u)"),
    ("CUDA: the second factor of a sum is lost", "test_cuda", CUDA_VERBS, CUDA,
     "of_a * left[i] + of_b * right[i]", "of_a * left[i] + right[i]"),
    ("CUDA: products skip a row", "test_cuda", CUDA_VERBS, CUDA,
     "row = blockIdx.x; row < rows;", "row = blockIdx.x + 1; row < rows;"),
    ("CUDA: one factor is read as many", "test_cuda", CUDA_VERBS, CUDA,
     "factor + (factors == 1 ? 0 : column + i)", "factor + (factors == 1 ? i : column + i)"),
    ("CUDA: the gate's gradient is added", "test_cuda", CUDA_VERBS, CUDA,
     "d_gate[0] -= silu_derivative(", "d_gate[0] += silu_derivative("),
    ("CUDA: a total overwrites", "test_cuda", CUDA_VERBS, "kernels/cuda/partials.cu",
     "target[0] += sum;", "target[0] = sum;"),
    ("CUDA: shift and slope exchanged", "test_cuda", CUDA_VERBS, CUDA_ELEMENTWISE,
     "add_total(d_parameters.slope, partials, blocks, stride, 2 * columns, columns);",
     "add_total(d_parameters.slope, partials, blocks, stride, 3 * columns, columns);"),
    ("plain: the norm's bias keeps its size", "test_engine", EXPORTS, PLAIN,
     "if (to.bias >= 0) scale(to.bias, {from.scale});", ""),
    ("plain: a branch's bias keeps its size", "test_engine", EXPORTS, PLAIN,
     "if (bias >= 0) scale(bias, factors);", ""),
    ("plain: learnt factors are not folded", "test_engine", EXPORTS, PLAIN,
     "factors.push_back(constant * learnt);", "factors.push_back(constant + 0 * learnt);"),
    ("config.json: where LayerNorm Scaling stands is forgotten", "test_engine",
     "placements: config.json*", "engine/hugging_face_reader.cpp",
     'read_choice(file, "lns_position", norm.lns_position, lns_position_names);', ""),
]
