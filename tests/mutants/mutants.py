"""The table of mutants: small mistakes, each of which must turn a test red."""

import shutil
from typing import NamedTuple

from analysis_mutants import ANALYSIS_MISTAKES
from cuda_mutants import CUDA_MISTAKES
from export_mutants import EXPORT_MISTAKES
from gemm_mutants import GEMM_MISTAKES
from look_back_mutants import LOOK_BACK_MISTAKES
from multiple_choice_mutants import MULTIPLE_CHOICE_MISTAKES
from placement_mutants import PLACEMENT_MISTAKES
from prepare_mutants import PREPARE_MISTAKES
from prompt_mutants import PROMPT_MISTAKES
from pure_bf16_mutants import PURE_BF16_MISTAKES
from ranks_mutants import RANKS_MISTAKES
from removal_mutants import GOLDEN_REMOVAL, REMOVAL_MISTAKES, SIGMA_LATE, SPECIAL_MISTAKES
from tokenizer_mutants import TOKENIZER_MISTAKES

KERNELS = "test_kernels"
MODELS = "test_models"
ENGINE = "test_engine"


class Mutant(NamedTuple):
    name: str     # what is wrong
    program: str  # which test program must notice
    tests: str    # Catch2's filter
    file: str
    edits: list   # (text that occurs once in the file, what it becomes)


def one(name, program, tests, file, original, replacement):
    return Mutant(name, program, tests, file, [(original, replacement)])


NORM = "kernels/cpu/norm.cpp"
ATTENTION_KERNEL = "kernels/cpu/attention.cpp"
ACTIVATION = "kernels/cpu/activation.cpp"
LINEAR = "kernels/cpu/linear.cpp"
LOSS = "kernels/cpu/loss.cpp"
UPDATE = "kernels/cpu/optimizer.cpp"
EVALUATION = "engine/evaluation.cpp"
ADAMW = "kernels/adamw.h"
BF16 = "kernels/bfloat16.h"
ROUNDING = "kernels/cpu/rounding_ops.cpp"
MODEL = "models/model.cpp"
ATTENTION = "models/attention.cpp"
JOINT = "models/joint.cpp"
PARAMETER = "models/parameter.cpp"
STRUCTURE = "models/structure.cpp"

GPT2_GRADIENTS = "model gradients: gpt2*"
LLAMA_GRADIENTS = "model gradients: llama*"
DROPOUT_GRADIENTS = "model gradients: under dropout*"
GOLDEN = "golden: logits*"
TRAINED = "golden: 30 steps*"

SITE_PARAMETERS = '''  site.bias = find_parameter_or_none(structure.parameters, prefix + ".bias");
'''
GAIN = '    vector(name + ".gain", layer, config_.width, 1);\n'
SUM_ROUNDED = '''Tensor{}, Written{normed}, statistics,
      Read{sum ? ConstTensor{sum} : residual}, ConstTensor{}, norm'''
ROPE_PAIRS = '''          const Scalar a = low[i];
          const Scalar b = high[i];
          low[i] = a * cosine[i] - sign * sine[i] * b;
          high[i] = b * cosine[i] + sign * sine[i] * a;
'''

MUTANTS = [
    # --- Norm
    one("gain and bias swapped in forward", MODELS, GPT2_GRADIENTS, NORM,
        "y[c] = scale * ((x[c] - mean) * inverse * gain[c] + bias[c]);",
        "y[c] = scale * ((x[c] - mean) * inverse * bias[c] + gain[c]);"),
    one("gain and bias swapped throughout", MODELS, GOLDEN, STRUCTURE, SITE_PARAMETERS,
        SITE_PARAMETERS + "  if (site.bias >= 0) std::swap(site.gain, site.bias);\n"),
    one("epsilon outside the square root", MODELS, GOLDEN, NORM,
        "1 / std::sqrt(variance + static_cast<Scalar>(norm.epsilon))",
        "1 / (std::sqrt(variance) + static_cast<Scalar>(norm.epsilon))"),
    one("epsilon outside the square root (operator)", KERNELS, "residual_norm: equals*", NORM,
        "1 / std::sqrt(variance + static_cast<Scalar>(norm.epsilon))",
        "1 / (std::sqrt(variance) + static_cast<Scalar>(norm.epsilon))"),
    one("layernorm's backward does not subtract the mean", MODELS, GPT2_GRADIENTS, NORM,
        "norm.kind == NormKind::layernorm ? total / static_cast<Scalar>(width) : Scalar(0)",
        "Scalar(0)"),
    one("rmsnorm's backward subtracts the mean", MODELS, LLAMA_GRADIENTS, NORM,
        "norm.kind == NormKind::layernorm ? total / static_cast<Scalar>(width) : Scalar(0)",
        "total / static_cast<Scalar>(width)"),
    one("a tapering norm's backward forgets the gate", MODELS, "model gradients: tapering*", NORM,
        "const Scalar along = live * row.inverse_std", "const Scalar along = row.inverse_std"),
    one("a tapering norm adds all of 1/sigma", KERNELS, "residual_norm: equals*", NORM,
        "(1 - live) * state[1]", "state[1]"),
    one("the norm's scale is dropped", KERNELS, "residual_norm: equals*", NORM,
        "y[c] = scale * ((x[c] - mean) * inverse * gain[c] + bias[c]);",
        "y[c] = (x[c] - mean) * inverse * gain[c] + bias[c];"),
    one("gradient of a norm's bias skipped", MODELS, GPT2_GRADIENTS, NORM,
        "if (bias_out != nullptr) bias_out[c] += bias_total;", ""),
    one("gradient of a norm's gain overwritten", MODELS, "Model: a second backward*", NORM,
        "gain_out[c] += gain_total;", "gain_out[c] = gain_total;"),
    one("the gradient of the residual stream dropped", MODELS, GPT2_GRADIENTS, JOINT,
        "d_normed, d_residual, residual(rows),", "d_normed, {}, residual(rows),"),
    one("post: the gradient past a sublayer dropped", MODELS, "model gradients: post*", JOINT,
        "pass.ops.add(d_stream, d_residual, rooms.d_normed);",
        "pass.ops.copy(d_stream, rooms.d_normed);"),
    one("post: the gradient shown is that of the sum", MODELS, "Probe: the gradient shown*", JOINT,
        "pass.show_gradient(shown.residual[i], shown.layers[i], d_stream);",
        "if (!norms_.after) pass.show_gradient(shown.residual[i], shown.layers[i], d_stream);"),
    one("the gradient shown of a branch is that after its dropout", MODELS,
        "Probe: the gradient shown*", MODEL, "pass.show_gradient(site, layer, gradient);",
        "pass.show_gradient(site, layer, d_stream);"),
    one("post: the MLP's norm is attention's", MODELS, "norm_plan: post*", "models/norm_plan.cpp",
        "exit.after = PlannedNorm{roles.after, layer};",
        "exit.after = PlannedNorm{NormRole::attention, layer};"),
    # --- Products
    one("gradient of a bias skipped", MODELS, GPT2_GRADIENTS, LINEAR,
        "out[first + i] += sums[i];", "(void)out;"),
    one("gradient of a bias overwritten", MODELS, "Model: a second backward*", LINEAR,
        "out[first + i] += sums[i];", "out[first + i] = sums[i];"),
    one("gradient of a weight overwritten", MODELS, "Model: a second backward*", LINEAR,
        "Store::add, {d_weight.as<Scalar>()", "Store::replace, {d_weight.as<Scalar>()"),
    one("gradient of the QKV bias not asked for", MODELS, GPT2_GRADIENTS, ATTENTION,
        "columns_or_none(d_bias, part.first, part.count), d_part,", "Tensor{}, d_part,"),
    # --- Activations and rotary positions
    Mutant("GELU by the error function", MODELS, GOLDEN, "kernels/formula.h", [
        ("return x * sigmoid(2 * inner);",
         "return x / 2 * (1 + std::erf(x * Scalar(0.70710678118654752)));"),
        ("return sigmoid_there + x * (e * larger * larger) * 2 * d_inner;",
         "return (1 + std::erf(x * Scalar(0.70710678118654752))) / 2 +\n"
         "         x * std::exp(-x * x / 2) * Scalar(0.39894228040143268);")]),
    one("SwiGLU's gate and up swapped", MODELS, GOLDEN, ACTIVATION,
        "silu(gate[c]) * up[c]", "silu(up[c]) * gate[c]"),
    one("rotary positions turn the other way", KERNELS, "activations: equals*", ACTIVATION,
        "direction == RopeDirection::forward ? 1 : -1",
        "direction == RopeDirection::forward ? -1 : 1"),
    one("rotary positions turn the same way in backward", MODELS, LLAMA_GRADIENTS, ACTIVATION,
        "direction == RopeDirection::forward ? 1 : -1",
        "direction == RopeDirection::forward ? 1 : 1"),
    one("rotary pairs interleaved instead of half-split", MODELS, GOLDEN, ACTIVATION, ROPE_PAIRS,
        ROPE_PAIRS.replace("low[i]", "low[2 * i]").replace("high[i]", "low[2 * i + 1]")),
    one("keys are not rotated", MODELS, GOLDEN, ATTENTION,
        "  rotate(pass, parts.k, RopeDirection::forward);\n", ""),
    one("rotary positions begin anew in each call of decode", MODELS, "decode: token*", ATTENTION,
        "pass.config.rope_base, pass.first_position,", "pass.config.rope_base, 0,"),
    one("learned positions begin anew in each call of decode", MODELS, "decode: token*", MODEL,
        "pass.value(structure_.position_embedding), decoded_tokens_);",
        "pass.value(structure_.position_embedding), 0);"),
    # --- Attention
    one("a query sees the next key", MODELS, "Model: a token changes*", ATTENTION_KERNEL,
        "return shape.key_tokens - shape.query_tokens + first + row + 1;",
        "return std::min(keys, shape.key_tokens - shape.query_tokens + first + row + 2);"),
    one("a query does not see its own key (operator)", KERNELS, "attention: equals*",
        ATTENTION_KERNEL, "return shape.key_tokens - shape.query_tokens + first + row + 1;",
        "return std::max<int64_t>(1, shape.key_tokens - shape.query_tokens + first + row);"),
    one("query heads go round the key heads", MODELS, LLAMA_GRADIENTS, ATTENTION_KERNEL,
        "head * shape.kv_heads / shape.heads;", "head % shape.kv_heads;"),
    one("query heads go round the key heads (operator)", KERNELS, "attention: equals*",
        ATTENTION_KERNEL, "head * shape.kv_heads / shape.heads;", "head % shape.kv_heads;"),
    # --- Dropout
    one("another mask on a branch in backward", MODELS, DROPOUT_GRADIENTS, MODEL,
        "ops_.dropout(gradient, gradients.branch, pass.batch, pass.dropout(dropout));",
        "ops_.dropout(gradient, gradients.branch, pass.batch, pass.dropout(dropout + 1));"),
    one("another mask on the probabilities in backward", MODELS, DROPOUT_GRADIENTS, ATTENTION,
        "pass.dropout(attention_probability_dropout(attention.layer)));\n"
        "  pass.show_gradient(ProbeSite::q",
        "pass.dropout(attention_probability_dropout(attention.layer) + 1));\n"
        "  pass.show_gradient(ProbeSite::q"),
    one("dropout left on in evaluation", MODELS, "Model: dropout falls*", MODEL,
        "tokens, 0, pass, probe, batch", "tokens, 0, Pass::training, probe, batch"),
    one("every micro-batch has the masks of the first", MODELS, "Model: gradients of micro*",
        ACTIVATION, "static_cast<uint64_t>(state_.first_sequence + sequence)",
        "static_cast<uint64_t>(sequence)"),
    # --- Loss, head, embedding
    one("loss is the logarithm of a quotient", KERNELS, "cross_entropy: a probability*", LOSS,
        "return std::log(sum) + (largest - logit);",
        "return -std::log(exponential(logit - largest) / sum);"),
    one("gradients forget the loss scale", MODELS, GPT2_GRADIENTS, LOSS,
        "const auto scale = static_cast<Scalar>(state_.loss_scale);", "const Scalar scale = 1;"),
    one("the step's loss forgets the loss scale", MODELS, "Model: the step's loss*", LOSS,
        "losses_.loss += state_.loss_scale * sum;", "losses_.loss += sum;"),
    one("a tied embedding's gradient from the head alone", MODELS, GPT2_GRADIENTS, MODEL,
        "  ops_.embedding_backward(pass.gradient",
        "  if (!config_.tie_embeddings) ops_.embedding_backward(pass.gradient"),
    one("a tied embedding's gradient from the input alone", MODELS, GPT2_GRADIENTS, MODEL,
        "    ops_.linear_backward_weight(pass.gradient(structure_.head), ",
        "    if (!config_.tie_embeddings)\n"
        "      ops_.linear_backward_weight(pass.gradient(structure_.head), "),
    one("every chunk of logits writes the first rows", MODELS, "Model: losses and gradients do*",
        MODEL, "room.d_normed.row_slice(first, count)", "room.d_normed.row_slice(0, count)"),
    one("gradient of a token overwritten", MODELS, GPT2_GRADIENTS, "kernels/cpu/embedding.cpp",
        "token[c] += gradient[c];", "token[c] = gradient[c];"),
    # --- Parameters, buckets, update
    one("biases decay", MODELS, "parameter_list: matrices*", PARAMETER,
        "if (config_.biases >= least) vector(name, layer, size, 0);",
        "if (config_.biases >= least) add(name, layer, {1, size}).decays = true;"),
    one("gains decay", MODELS, TRAINED, PARAMETER,
        GAIN, GAIN + "    list_.back().decays = true;\n"),
    one("decay on all that is not to decay", MODELS, TRAINED, "engine/optimizer.cpp",
        "update(vectors, packed + vectors.begin - range.begin, 0.0);",
        "update(vectors, packed + vectors.begin - range.begin, config_.weight_decay);"),
    one("a bucket is reported before its last norm", MODELS, "backward: reports each bucket*",
        MODEL, "    pass_joint(2 * at, Joint::Position::inner);",
        "    done(config_.layers - layer);\n    pass_joint(2 * at, Joint::Position::inner);"),
    one("scaled init forgets that a layer has two branches", MODELS, "initialize: matrices*",
        PARAMETER, "std::sqrt(2.0 * static_cast<double>(config_.layers))",
        "std::sqrt(static_cast<double>(config_.layers))"),
    one("no correction of the first moment", KERNELS, "adamw: equals*", ADAMW,
        "state.learning_rate / state.first_moment_correction", "state.learning_rate"),
    one("no correction of the second moment", KERNELS, "adamw: equals*", ADAMW,
        "1 / std::sqrt(state.second_moment_correction)", "1.0"),
    one("clipping by the squared norm", KERNELS, "adamw: equals*", UPDATE,
        "state_.gradient_norm = std::sqrt(sum);", "state_.gradient_norm = sum;"),
    # --- bf16
    one("bf16: rounding cuts off", KERNELS, "round_to_bfloat16: goes*", BF16,
        "(bits + 0x7FFF + ((bits >> 16) & 1)) >> 16", "bits >> 16"),
    one("bf16: between two it goes up", KERNELS, "round_to_bfloat16: goes*", BF16,
        "bits + 0x7FFF + ((bits >> 16) & 1)", "bits + 0x8000"),
    one("bf16: no number becomes infinite", KERNELS, "round_to_bfloat16: what is too large*", BF16,
        "if (x != x) return {0x7FFF};", ""),
    one("bf16: the norm reads the sum before it is rounded", KERNELS, "residual_norm: equals*",
        ROUNDING, SUM_ROUNDED,
        "Written{sum}, Written{normed}, statistics, Read{residual}, Read{branch}, norm"),
    one("bf16: products are rounded twice", KERNELS, "RoundingOps: gives what*", ROUNDING,
        "run(&Ops::linear_forward, Written{y}, Read{x}, Read{weight}, Read{bias});",
        "run(&Ops::linear_forward, Written{y}, Read{x}, Read{weight}, Read{});\n"
        "  for (int64_t row = 0; bias && row < y.rows(); ++row) {\n"
        "    add(y.row_slice(row, 1), y.row_slice(row, 1), bias);\n  }"),
    one("bf16: an update with gradients that are not finite", KERNELS,
        "RoundingOps: a gradient that is not finite*", ROUNDING,
        "  if (!download_step_result().finite) return;\n", ""),
    one("bf16: the values are not those of the masters", KERNELS, "adamw: equals*", ROUNDING,
        "  round_weights(value, master);\n", ""),
    one("bf16: masters begin at 0", ENGINE, "optimizer in bf16: masters take over*",
        "engine/optimizer.cpp", "if (!masters_) return;", "return;"),
    one("bf16: the first weights are rounded before they are masters", MODELS,
        "initialize in bf16*", MODEL, "masters ? parameter.part_of(masters) : parameter.value",
        "parameter.value"),
    # --- Hugging Face
    one("qwen2's keys get the biases of its queries", MODELS, GOLDEN, "models/llama.cpp",
        'own + "attention.qkv.bias", queries, keys);', 'own + "attention.qkv.bias", 0, keys);'),
    one("a tied head that differs is ignored", ENGINE, "weights: a tied head*",
        "engine/weights.cpp", "      check_tied_head(files,",
        "      if (false) check_tied_head(files,"),
    one("a tensor in another file than the index says is taken", ENGINE, "safetensors set*",
        "engine/safetensors_set.cpp", "place == index.end() || place->second != name",
        "place == index.end()"),
    one("a window one token shorter than the context is ignored", ENGINE, "config.json*",
        "engine/hugging_face_reader.cpp", "window >= config.context",
        "window + 1 >= config.context"),
    one("halves are rounded up from the middle", ENGINE, "safetensors: all halves*",
        "engine/stored_numbers.cpp", "+ 0xfff + (magnitude >> 13 & 1)", "+ 0x1000"),
    one("bf16: a checkpoint holds the rounded weights", ENGINE, "checkpoint: a run in bf16*",
        "engine/checkpoint.cpp", '"/model.safetensors", optimizer.masters()',
        '"/model.safetensors", Tensor{}'),
    one("bf16: loaded masters leave the values alone", ENGINE, "checkpoint: a run in bf16*",
        "engine/weights.cpp",
        "if (masters) model.ops().round_weights(model.values(), masters);", ""),
    one("an update with gradients that are not finite", KERNELS, "adamw: equals*", UPDATE,
        "  if (!state_.finite) return;\n", ""),
    # --- the reference's perplexity
    one("ppl_cod: divided by n", ENGINE, "evaluate: the reference's*", EVALUATION,
        "batches_ + 1", "batches_"),
    one("ppl_cod: targets weigh the same, not batches", ENGINE, "evaluate: the reference's*",
        EVALUATION, "if (sequence / sequences_ != current_) finish_batch();", ""),
    one("ppl_cod: evaluation ends in the midst of a batch", ENGINE, "evaluate: the reference's*",
        EVALUATION, "batches.ends_before(first_sequence) &&", ""),
    one("ppl_cod: a pass goes on into the next batch", ENGINE, "evaluate: the reference's*",
        EVALUATION, "batches.within_batch(first_sequence, options.batch)", "options.batch"),
]

MUTANTS += [one(name, "test_cuda", tests, "kernels/cuda/" + file, original, replacement)
            for name, tests, file, original, replacement in CUDA_MISTAKES]
MUTANTS += [one(name, "test_data", tests, "data/" + file, original, replacement)
            for name, tests, file, original, replacement in TOKENIZER_MISTAKES + PREPARE_MISTAKES]
MUTANTS += [one(name, ENGINE, GOLDEN_REMOVAL, file, original, replacement)
            for name, file, original, replacement in REMOVAL_MISTAKES]
MUTANTS += [one(*mistake) for mistake in SPECIAL_MISTAKES]
MUTANTS.append(Mutant(SIGMA_LATE[0], ENGINE, GOLDEN_REMOVAL, *SIGMA_LATE[1:]))
MUTANTS += [one(*mistake) for mistake in EXPORT_MISTAKES + ANALYSIS_MISTAKES + PLACEMENT_MISTAKES +
            GEMM_MISTAKES + LOOK_BACK_MISTAKES + MULTIPLE_CHOICE_MISTAKES + PROMPT_MISTAKES +
            PURE_BF16_MISTAKES]
# Their tests skip where there is no MPI.
if shutil.which("mpicxx") and shutil.which("mpirun"):
    MUTANTS += [one(*mistake) for mistake in RANKS_MISTAKES]
