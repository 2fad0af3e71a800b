"""Golden models: what Hugging Face transformers says about five tiny random transformers.

For each case (gpt2, llama, llama_tied, mistral, qwen2) writes <case>/config.json and
model.safetensors, a model directory as transformers saves it, and what is expected of that model:
<case>/expected.safetensors and expected.json (README.md lists every tensor). Run (one thread,
seconds, no GPU):

    pip install torch transformers safetensors numpy && python tests/golden/make_golden.py [CASE …]

What is expected is computed in float64 from the fp32 weights and rounded to float32 at the end.
Before a case is written the script checks itself: logits against a second forward pass, written
out by hand below (1e-12), gradients against finite differences of that one. It also trains the
untouched float32 model and prints how far that strays: the bounds of tests/models/golden_test.cpp.
Weights are larger than a fresh model's (std 0.2, gains in [0.5, 1.5], biases not zero): at std
0.02 a model without rotary positions, or with another GELU, would hardly differ.
"""

import copy
import json
import math
import sys
import types
from importlib import metadata
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding
from transformers.models.mistral.modeling_mistral import MistralRMSNorm, MistralRotaryEmbedding
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm, Qwen2RotaryEmbedding

PACKAGES = ("torch", "transformers", "safetensors", "numpy")
SHAPE, TRAIN_SHAPE, TRAIN_STEPS = (3, 72), (4, 24), 30  # shapes: sequences, tokens
PROMPT_TOKENS, GREEDY_TOKENS, IGNORED = 5, 20, -1
OPTIMIZER = dict(learning_rate=5e-3, beta1=0.9, beta2=0.95, epsilon=1e-8, weight_decay=0.1)
SCHEDULE = dict(kind="cosine", warmup_steps=10, total_steps=40, minimum_ratio=0.1)
# Seeds: of clear margins in the greedy continuation. From llama_tied on, the trained weights of
# vectors and of the embedding only are kept, so that all files together stay below 4 MB.
CASES = {
    "gpt2": dict(seed=3, gradient_clip=0.85, keeps_all_trained=True),
    "llama": dict(seed=57, gradient_clip=6.0, keeps_all_trained=True),
    "llama_tied": dict(seed=44, gradient_clip=6.0, keeps_all_trained=False),
    "mistral": dict(seed=37, gradient_clip=4.0, keeps_all_trained=False),
    "qwen2": dict(seed=25, gradient_clip=4.5, keeps_all_trained=False),
}
NORMS = (LlamaRMSNorm, MistralRMSNorm, Qwen2RMSNorm)
ROTARY_EMBEDDINGS = (LlamaRotaryEmbedding, MistralRotaryEmbedding, Qwen2RotaryEmbedding)


def make_model(case):
    if case == "gpt2":
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(
            n_embd=48, n_layer=3, n_head=4, n_positions=80, vocab_size=97, layer_norm_epsilon=1e-5,
            activation_function="gelu_new", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=None, eos_token_id=None))
    if case in ("mistral", "qwen2"):
        return make_relative(case)
    if case == "llama":
        sizes = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=6, head_dim=8,
                     num_key_value_heads=2, intermediate_size=132, vocab_size=101)
    else:
        sizes = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, head_dim=20,
                     num_key_value_heads=4, intermediate_size=33, vocab_size=67)
    rope = {"rope_type": "default", "rope_theta": 10000.0 if case == "llama" else 500.0}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        **sizes, tie_word_embeddings=case == "llama_tied", rope_parameters=rope, rms_norm_eps=1e-6,
        max_position_embeddings=96, bos_token_id=None, eos_token_id=None))


def make_relative(case):
    """LLaMA's relatives: Mistral with heads that do not add up to its width and no sliding window,
    Qwen2 with its biases, a window that is switched off, and a tied head."""
    shared = dict(num_hidden_layers=2, rms_norm_eps=1e-5, max_position_embeddings=96,
                  bos_token_id=None, eos_token_id=None)
    if case == "mistral":
        return transformers.MistralForCausalLM(transformers.MistralConfig(
            **shared, hidden_size=40, num_attention_heads=4, head_dim=6, num_key_value_heads=2,
            intermediate_size=77, vocab_size=71, sliding_window=None,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6}))
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(
        **shared, hidden_size=42, num_attention_heads=3, num_key_value_heads=1,
        intermediate_size=65, vocab_size=89, tie_word_embeddings=True, use_sliding_window=False,
        rope_parameters={"rope_type": "default", "rope_theta": 2000.0}))


@torch.no_grad()
def randomize(model):
    for name, parameter in model.named_parameters():
        gain = parameter.ndim == 1 and name.endswith("weight")
        parameter.uniform_(0.5, 1.5) if gain else parameter.normal_(0, 0.2)


def head_size(config):
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def in_double(model):
    """A copy in float64 throughout. By itself transformers computes RMSNorm, RoPE's angles and, in
    "eager" attention (so "sdpa" is used here), Llama's softmax in float32 whatever the model is."""
    def norm(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, True) + self.variance_epsilon)

    def rotary_embedding(self, x, position_ids):
        size, base = head_size(self.config), self.config.rope_parameters["rope_theta"]
        rates = base ** -(torch.arange(0, size, 2, dtype=x.dtype) / size)
        angles = (position_ids[..., None].to(x.dtype) * rates).repeat(1, 1, 2)
        return angles.cos(), angles.sin()

    model = copy.deepcopy(model).double()
    assert model.config._attn_implementation == "sdpa"
    for module in model.modules():
        if isinstance(module, NORMS + ROTARY_EMBEDDINGS):
            exact = norm if isinstance(module, NORMS) else rotary_embedding
            module.forward = types.MethodType(exact, module)
    return model


def token_losses(logits, targets):
    """Losses per token (0 where ignored) and their mean over the tokens that are not."""
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return losses.view(targets.shape), losses.sum() / (targets != IGNORED).sum()


# The same models once more, by hand: nothing of transformers but the weights and the sizes

def attend(q, k, v):
    """q (B,T,H,D), k and v (B,T,H_kv,D) -> (B,T,H·D). Query head h reads head h·H_kv // H."""
    _, tokens, heads, size = q.shape
    visible = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    outputs = []
    for head in range(heads):
        kv_head = head * k.shape[2] // heads
        scores = q[:, :, head] @ k[:, :, kv_head].transpose(1, 2) / math.sqrt(size)
        outputs.append(scores.masked_fill(~visible, -math.inf).softmax(-1) @ v[:, :, kv_head])
    return torch.cat(outputs, dim=-1)


def gpt2_by_hand(w, tokens, config):
    def norm(x, name):
        x = x - x.mean(-1, keepdim=True)
        std = (x.pow(2).mean(-1, keepdim=True) + config.layer_norm_epsilon).sqrt()
        return x / std * w[name + ".weight"] + w[name + ".bias"]
    def product(x, name):  # Conv1D: the weight is [in, out]
        return x @ w[name + ".weight"] + w[name + ".bias"]
    def gelu(x):
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][:tokens.shape[1]]
    for layer in range(config.n_layer):
        h = f"transformer.h.{layer}."
        qkv = product(norm(x, h + "ln_1"), h + "attn.c_attn").chunk(3, dim=-1)
        q, k, v = (part.view(*tokens.shape, config.n_head, -1) for part in qkv)
        x = x + product(attend(q, k, v), h + "attn.c_proj")
        x = x + product(gelu(product(norm(x, h + "ln_2"), h + "mlp.c_fc")), h + "mlp.c_proj")
    return norm(x, "transformer.ln_f") @ w["transformer.wte.weight"].T


def llama_by_hand(w, tokens, config):
    half, base = head_size(config) // 2, config.rope_parameters["rope_theta"]

    def norm(x, name):
        rms = (x.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps).sqrt()
        return x / rms * w[name + ".weight"]
    def product(x, name):
        return x @ w[name + ".weight"].T + w.get(name + ".bias", 0)
    def rotate(x):  # pairs (i, i + D/2) of every head turn by position · base^(−2i/D)
        rates = torch.tensor([base ** (-i / half) for i in range(half)], dtype=x.dtype)
        angles = torch.arange(x.shape[1], dtype=x.dtype)[:, None, None] * rates
        first, second = x[..., :half], x[..., half:]
        return torch.cat((first * angles.cos() - second * angles.sin(),
                          second * angles.cos() + first * angles.sin()), dim=-1)

    x = w["model.embed_tokens.weight"][tokens]
    for layer in range(config.num_hidden_layers):
        h = f"model.layers.{layer}."
        y = norm(x, h + "input_layernorm")
        q, k, v = (product(y, f"{h}self_attn.{part}_proj").view(*tokens.shape, -1, 2 * half)
                   for part in "qkv")
        x = x + product(attend(rotate(q), rotate(k), v), h + "self_attn.o_proj")
        y = norm(x, h + "post_attention_layernorm")
        gate, up = product(y, h + "mlp.gate_proj"), product(y, h + "mlp.up_proj")
        x = x + product(gate * torch.sigmoid(gate) * up, h + "mlp.down_proj")
    head = "model.embed_tokens" if config.tie_word_embeddings else "lm_head"
    return product(norm(x, "model.norm"), head)


def check_by_hand(model, tokens, targets, expected):
    """Asserts the logits, and of every gradient the largest element. Returns the worst errors."""
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    by_hand = gpt2_by_hand if model.config.model_type == "gpt2" else llama_by_hand

    def loss(element, place, value):
        element[place] = value
        return token_losses(by_hand(weights, tokens, model.config), targets)[1].item()

    logits_error = (by_hand(weights, tokens, model.config) - expected["logits"]).abs().max().item()
    worst, step = 0.0, 1e-5
    for name in weights:
        gradient, element = expected["grad." + name].view(-1), weights[name].view(-1)
        place = gradient.abs().argmax().item()
        value, slope = element[place].item(), gradient[place].item()
        rise = loss(element, place, value + step) - loss(element, place, value - step)
        element[place] = value
        worst = max(worst, abs(rise / (2 * step) / slope - 1))
    assert logits_error < 1e-12 and worst < 1e-6, (logits_error, worst)
    return logits_error, worst


def random_batch(vocabulary, shape):
    """Tokens and targets. Every row ignores another number of targets, row 0 those at its ends."""
    tokens, targets = torch.randint(vocabulary, shape), torch.randint(vocabulary, shape)
    for row, count in zip(targets, 3 * torch.randperm(shape[1] // 6)):
        row[1 + torch.randperm(shape[1] - 2)[:count]] = IGNORED
    targets[0, 0] = targets[0, -1] = IGNORED
    return tokens, targets


def learning_rate(step):
    """Of the update after `step` completed ones: linear warm-up from 0, then half a cosine."""
    _, warmup, total, ratio = SCHEDULE.values()
    cosine = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
    factor = step / warmup if step < warmup else ratio + (1 - ratio) * cosine
    return OPTIMIZER["learning_rate"] * factor


def one_pass(model, tokens, targets):
    logits = model(tokens).logits
    losses, loss = token_losses(logits, targets)
    loss.backward()
    return {"logits": logits.detach(), "losses": losses.detach(), "loss": loss.detach().view(1),
            **{"grad." + name: p.grad.clone() for name, p in model.named_parameters()}}


def train(model, tokens, targets, clip):
    """TRAIN_STEPS updates in place. Clipping is min(1, clip / norm), without PyTorch's 1e-6."""
    optimizer = torch.optim.AdamW(  # decay on all matrices, embeddings among them, and on no vector
        [dict(params=p, weight_decay=OPTIMIZER["weight_decay"] if p.ndim >= 2 else 0.0)
         for p in model.parameters()],
        betas=(OPTIMIZER["beta1"], OPTIMIZER["beta2"]), eps=OPTIMIZER["epsilon"], foreach=False)
    record = []
    for step in range(TRAIN_STEPS):
        optimizer.zero_grad()
        _, loss = token_losses(model(tokens[step]).logits, targets[step])
        loss.backward()
        norm = math.sqrt(sum(p.grad.pow(2).sum().item() for p in model.parameters()))
        for group in optimizer.param_groups:  # of one parameter each
            group["params"][0].grad.mul_(min(1.0, clip / norm))
            group["lr"] = learning_rate(step)
        optimizer.step()
        record.append((loss.item(), norm, learning_rate(step)))
    columns = torch.tensor(record, dtype=torch.float64).T.contiguous()
    return dict(zip(("train_losses", "train_grad_norms", "train_learning_rates"), columns),
                **{"final." + name: p.detach() for name, p in model.named_parameters()})


@torch.no_grad()
def continue_greedily(model, prompt):
    """The continuation (1, GREEDY_TOKENS) and the smallest lead of a winner over the next best."""
    tokens, margin = prompt, math.inf
    for _ in range(GREEDY_TOKENS):
        best = model(tokens).logits[0, -1].topk(2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        tokens = torch.cat((tokens, best.indices[:1].view(1, 1)), dim=1)
    return tokens[:, prompt.shape[1]:], margin


def float32_errors(expected, single):
    """Largest error, relative to a tensor's largest magnitude, by kind of tensor. Without GPT-2's
    key bias: softmax does not see it; its gradient is rounding, which Adam makes full steps of."""
    errors = {}
    for name, value in single.items():
        error, kind = (value.double() - expected[name]).abs(), name.split(".")[0]
        if name.endswith("c_attn.bias"):
            error.chunk(3)[1].zero_()
        errors[kind] = max(errors.get(kind, 0), (error.max() / expected[name].abs().max()).item())
    return errors


def write(case, model, expected):
    folder = Path(__file__).resolve().parent / case
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    save_file({name: value.float() if value.is_floating_point() else value.int()
               for name, value in expected.items()
               if CASES[case]["keeps_all_trained"] or "final." not in name
               or value.ndim == 1 or "embed" in name}, folder / "expected.safetensors")
    versions = {name: metadata.version(name) for name in PACKAGES}
    settings = dict(CASES[case], optimizer=OPTIMIZER, schedule=SCHEDULE, versions=versions)
    (folder / "expected.json").write_text(json.dumps(settings, indent=2) + "\n")
    for file in folder.iterdir():
        file.chmod(0o644)
    return sum(file.stat().st_size for file in folder.iterdir())


def make(case):
    """Writes one case, prints its part of the summary, and returns its bytes."""
    torch.manual_seed(CASES[case]["seed"])
    model, clip = make_model(case).eval(), CASES[case]["gradient_clip"]
    randomize(model)
    batch = random_batch(model.config.vocab_size, SHAPE)
    steps = [random_batch(model.config.vocab_size, TRAIN_SHAPE) for _ in range(TRAIN_STEPS)]
    train_batch = [torch.stack(part) for part in zip(*steps)]
    double, single = in_double(model), copy.deepcopy(model)
    expected = one_pass(double, *batch)
    by_hand = check_by_hand(double, *batch, expected)
    greedy, margin = continue_greedily(double, batch[0][:1, :PROMPT_TOKENS])
    assert margin > 0.02, margin
    expected |= train(double, *train_batch, clip)
    errors = float32_errors(expected, one_pass(single, *batch) | train(single, *train_batch, clip))
    norms, losses = expected["train_grad_norms"], expected["train_losses"]
    clipped = [step for step in range(TRAIN_STEPS) if norms[step] > clip]
    assert 0 < len(clipped) < TRAIN_STEPS, clipped
    names = ("tokens", "targets", "train_tokens", "train_targets", "greedy")
    size = write(case, model, expected | dict(zip(names, (*batch, *train_batch, greedy))))
    print(f"{case}: {model.num_parameters()} parameters, {size} bytes\n"
          f"  by hand: logits differ by {by_hand[0]:.1e}, gradients by {by_hand[1]:.1e} relative\n"
          f"  loss {expected['loss'].item():.4f}; training {losses[0]:.4f} -> {losses[-1]:.4f}\n"
          f"  gradient norms {norms.min():.2f} to {norms.max():.2f}, > {clip} in steps {clipped}\n"
          f"  greedy, smallest margin {margin:.3f}: {greedy[0].tolist()}\n"
          f"  float32 strays by {', '.join(f'{k} {v:.1e}' for k, v in errors.items())}")
    return size


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    print(f"total: {sum(make(case) for case in sys.argv[1:] or CASES)} bytes")
