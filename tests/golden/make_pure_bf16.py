#!/usr/bin/env python3
"""Golden numbers of training in bf16 alone: what torch computes on a CPU, each operation rounded.

make_pure_bf16.py > pure_bf16.json     (torch; no network)

The reference is github.com/lmsdss/LayerNorm-Scaling: its model is bf16 (weights, gradients, both of
Adam's moments). Of each operation, written as its modelling_llama.py has it: inputs, output and
gradients. Then a whole model (two layers, LayerNorm Scaling or Pre-LN), trained
for four updates of two passes: each pass's loss, the gradients before the first update, and the
weights after the last. Weights and tokens of the model are a function of their names and places, as
in make_placements.py.
"""

import json
import math

import torch
import torch.nn.functional as F
from make_placements import FEED_FORWARD, HEADS, HEAD_SIZE, VOCABULARY, WIDTH, number

BF16 = torch.bfloat16


def randn(*shape, spread=0.0):
    return (torch.randn(*shape) * torch.exp(torch.randn(*shape) * spread)).to(BF16)


def listed(*tensors):
    """Of each the numbers, four hexadecimal digits each."""
    return ["".join(f"{bits & 0xFFFF:04x}" for bits in
                    tensor.detach().to(BF16).flatten().view(torch.int16).tolist())
            for tensor in tensors]


def rms_norm(x, weight, epsilon):
    """modelling_llama.py, LlamaRMSNorm."""
    variance = x.to(torch.float32).pow(2).mean(-1, keepdim=True)
    x = x * torch.rsqrt(variance + epsilon)
    return weight * x.to(weight.dtype)


class Linear(torch.autograd.Function):
    """Sums in float, rounded once, as a GPU's tensor cores give them."""

    @staticmethod
    def forward(context, x, weight):
        context.save_for_backward(x, weight)
        return (x.float() @ weight.float().T).to(BF16)

    @staticmethod
    def backward(context, d_y):
        x, weight = (tensor.float() for tensor in context.saved_tensors)
        d_y = d_y.float()
        d_weight = d_y.flatten(0, -2).T @ x.flatten(0, -2)
        return (d_y @ weight).to(BF16), d_weight.to(BF16)


def linear(x, weight):
    return Linear.apply(x, weight)


def embedding(tokens, table):
    """Its gradient is a sum in float too."""
    return linear(F.one_hot(tokens, table.shape[0]).to(BF16), table.T)


class Attention(torch.autograd.Function):
    """Causal, in float between rounded inputs and outputs; backward from the rounded output, as
    FlashAttention (Dao 2023) does it."""

    @staticmethod
    def forward(context, q, k, v):
        scores = q.float() @ k.float().transpose(-1, -2) / math.sqrt(q.shape[-1])
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        p = torch.softmax(scores.masked_fill(future, -torch.inf), -1)
        z = (p @ v.float()).to(BF16)
        context.save_for_backward(q, k, v, p, z)
        return z

    @staticmethod
    def backward(context, d_z):
        q, k, v, p, z = (tensor.float() for tensor in context.saved_tensors)
        d_z = d_z.float()
        d_scores = p * (d_z @ v.transpose(-1, -2) - (d_z * z).sum(-1, keepdim=True))
        d_scores = d_scores / math.sqrt(q.shape[-1])
        return ((d_scores @ k).to(BF16), (d_scores.transpose(-1, -2) @ q).to(BF16),
                (p.transpose(-1, -2) @ d_z).to(BF16))


class LogSoftmax(torch.autograd.Function):
    """As on a GPU, where sums are floats (aten/src/ATen/native/cuda/SoftMax.cu); torch's kernel for
    the CPU sums in bf16."""

    @staticmethod
    def forward(context, x):
        y = torch.log_softmax(x.float(), -1).to(BF16)
        context.save_for_backward(y)
        return y

    @staticmethod
    def backward(context, d_y):
        y, = context.saved_tensors
        d_y = d_y.float()
        return (d_y - torch.exp(y.float()) * d_y.sum(-1, keepdim=True)).to(BF16)


class MeanLoss(torch.autograd.Function):
    """-log p of the targets, its mean over those that count (cuda/Loss.cu: a sum in float)."""

    @staticmethod
    def forward(context, log_probabilities, targets):
        context.save_for_backward(log_probabilities, targets)
        kept = targets >= 0
        found = log_probabilities[kept, targets[kept]].float()
        return (-found.sum() / kept.sum()).to(BF16)

    @staticmethod
    def backward(context, d_loss):
        log_probabilities, targets = context.saved_tensors
        kept = targets >= 0
        d = torch.zeros_like(log_probabilities)
        count = kept.sum().to(BF16).float()  # a tensor of the logits' type in Loss.cu
        d[kept, targets[kept]] = -(d_loss.float() / count).to(BF16)
        return d, None


def cross_entropy(logits, targets):
    return MeanLoss.apply(LogSoftmax.apply(logits), targets)


def rotations(tokens, head_size, base):
    inverse = 1.0 / (base ** (torch.arange(0, head_size, 2).float() / head_size))
    angles = torch.einsum("i,j->ij", torch.arange(tokens).float(), inverse)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(BF16), angles.sin().to(BF16)


def rotate(x, cosines, sines):
    """Of (…, heads, tokens, head_size)."""
    low, high = x[..., :x.shape[-1] // 2], x[..., x.shape[-1] // 2:]
    return x * cosines + torch.cat((-high, low), dim=-1) * sines


# count: a multiple of 32, for what is left over torch computes without fused multiply-add.
def adam_case(count, step, learning_rate, decay, kind, size=1.0):
    w, g, m = (randn(count, spread=2.0) for _ in range(3))
    g, m = g * size, m * size
    v = (randn(count, spread=2.0) * size * size).abs()
    parameter = torch.nn.Parameter(w.clone())
    parameter.grad = g.clone()
    optimizer = getattr(torch.optim, kind)([parameter], lr=learning_rate, betas=(0.9, 0.999),
                                           eps=1e-8, weight_decay=decay, foreach=False)
    optimizer.state[parameter] = {"step": torch.tensor(float(step - 1)), "exp_avg": m.clone(),
                                  "exp_avg_sq": v.clone()}
    optimizer.step()
    state = optimizer.state[parameter]
    return {"kind": kind, "step": step, "learning_rate": learning_rate, "decay": decay,
            "before": listed(w, m, v, g),
            "after": listed(parameter, state["exp_avg"], state["exp_avg_sq"])}


def norm_case(rows, width, scale, epsilon, past):
    x, d_y, d_past = randn(rows, width, spread=0.5), randn(rows, width), randn(rows, width)
    stream = x.clone().requires_grad_()
    body = stream * 1  # as what a block before would give
    weight = torch.nn.Parameter(randn(width).abs() + 0.5)
    y = rms_norm(body, weight, epsilon)
    if scale != 1:
        y = y * scale
    out = [y] + ([body + 0] if past else [])
    torch.autograd.backward(out, [d_y] + ([d_past] if past else []))
    return {"rows": rows, "width": width, "scale": scale, "epsilon": epsilon, "past": past,
            "inputs": listed(x, weight, d_y, d_past), "y": listed(y)[0],
            "gradients": listed(stream.grad, weight.grad)}


def rope_case(tokens, heads, head_size, base):
    x, d_y = (randn(tokens, heads * head_size) for _ in range(2))
    leaf = x.clone().requires_grad_()
    split = leaf.view(tokens, heads, head_size).transpose(0, 1)
    y = rotate(split, *rotations(tokens, head_size, base)).transpose(0, 1).reshape(tokens, -1)
    y.backward(d_y)
    return {"tokens": tokens, "heads": heads, "head_size": head_size, "base": base,
            "inputs": listed(x, d_y), "y": listed(y)[0], "gradients": listed(leaf.grad)}


def swiglu_case(rows, width):
    gate, up, d_y = (randn(rows, width, spread=0.7) for _ in range(3))
    leaves = [gate.clone().requires_grad_(), up.clone().requires_grad_()]
    y = F.silu(leaves[0]) * leaves[1]
    y.backward(d_y)
    return {"rows": rows, "width": width, "inputs": listed(torch.cat((gate, up), 1), d_y),
            "y": listed(y)[0],
            "gradients": listed(torch.cat([leaf.grad for leaf in leaves], 1))}


def loss_case(rows, vocabulary, passes):
    logits = randn(rows, vocabulary) * 3
    targets = torch.randint(vocabulary, (rows,))
    targets[1] = -100
    leaf = logits.clone().requires_grad_()
    loss = cross_entropy(leaf, targets)
    (loss / passes).backward()
    return {"rows": rows, "vocabulary": vocabulary, "passes": passes, "inputs": listed(logits),
            "targets": targets.tolist(), "loss": loss.item(), "gradients": listed(leaf.grad)}


def sum_case(rows, width, factor):
    x, f = randn(rows, width), randn(rows, width)
    return {"rows": rows, "factor": factor, "inputs": listed(x, f), "y": listed(x * factor + f)[0]}


def accumulate_case(rows, inputs, outputs):
    linear = torch.nn.Linear(inputs, outputs, bias=False, dtype=BF16)
    passes = [(randn(rows, inputs), randn(rows, outputs)) for _ in range(3)]
    for x, d_y in passes:
        linear(x).backward(d_y)
    return {"rows": rows, "in": inputs, "out": outputs,
            "passes": [listed(*one) for one in passes], "gradient": listed(linear.weight.grad)[0]}


class Model:
    """The tiny LLaMA of make_placements.py, two layers; its norms are scaled by 1/sqrt(l), or not.
    Queries, keys and values are one product here, as in normlab, and so are gate and up: the
    reference has a product for each, and rounds each one's gradient of its input.
    """

    LAYERS, TOKENS, EPSILON = 2, 7, 1e-6

    def __init__(self, scaled):
        self.scaled = scaled
        shapes = {"embedding.token": (VOCABULARY, WIDTH), "final.norm.gain": (WIDTH,),
                  "head.weight": (VOCABULARY, WIDTH)}
        for layer in range(self.LAYERS):
            prefix = f"layers.{layer}."
            shapes |= {prefix + "attention.norm.gain": (WIDTH,),
                       prefix + "attention.qkv.weight": (3 * WIDTH, WIDTH),
                       prefix + "attention.out.weight": (WIDTH, WIDTH),
                       prefix + "mlp.norm.gain": (WIDTH,),
                       prefix + "mlp.in.weight": (2 * FEED_FORWARD, WIDTH),
                       prefix + "mlp.out.weight": (WIDTH, FEED_FORWARD)}
        self.weights = {name: torch.nn.Parameter(number(name, shape).detach().to(BF16))
                        for name, shape in shapes.items()}

    def norm(self, name, x, layer=None):
        y = rms_norm(x, self.weights[name], self.EPSILON)
        return y * (1 / math.sqrt(layer + 1)) if self.scaled and layer is not None else y

    def forward(self, tokens):
        x = embedding(tokens, self.weights["embedding.token"])
        batch, length, _ = x.shape
        turned = rotations(length, HEAD_SIZE, 10000.0)
        for layer in range(self.LAYERS):
            prefix = f"layers.{layer}."
            normed = self.norm(prefix + "attention.norm.gain", x, layer)
            packed = linear(normed, self.weights[prefix + "attention.qkv.weight"])
            q, k, v = (part.view(batch, length, HEADS, HEAD_SIZE).transpose(1, 2)
                       for part in packed.chunk(3, -1))
            z = Attention.apply(rotate(q, *turned), rotate(k, *turned), v)
            z = z.transpose(1, 2).reshape(batch, length, WIDTH)
            x = x + linear(z, self.weights[prefix + "attention.out.weight"])
            normed = self.norm(prefix + "mlp.norm.gain", x, layer)
            gate, up = linear(normed, self.weights[prefix + "mlp.in.weight"]).chunk(2, -1)
            x = x + linear(F.silu(gate) * up, self.weights[prefix + "mlp.out.weight"])
        return linear(self.norm("final.norm.gain", x), self.weights["head.weight"])


def tokens_of(place):
    """Those of sequence `place`, and the one behind."""
    return [(5 * place * place + 3 * t * t + 7 * place * t) % VOCABULARY
            for t in range(Model.TOKENS + 1)]


def model_case(scaled, steps=4, passes=2, rows=3):
    model = Model(scaled)
    optimizer = torch.optim.Adam(model.weights.values(), lr=3e-3, foreach=False)
    case = {"scaled": scaled, "steps": steps, "passes": passes, "rows": rows, "losses": []}
    place = 0
    for step in range(steps):
        optimizer.zero_grad()
        for _ in range(passes):
            tokens = torch.tensor([tokens_of(place + row) for row in range(rows)])
            place += rows
            logits = model.forward(tokens[:, :-1])
            loss = cross_entropy(logits.reshape(-1, VOCABULARY), tokens[:, 1:].flatten())
            (loss / passes).backward()
            case["losses"].append(loss.item())
        if step == 0:
            case["gradients"] = {name: listed(weight.grad)[0]
                                 for name, weight in model.weights.items()}
        optimizer.step()
    case["weights"] = {name: listed(weight)[0] for name, weight in model.weights.items()}
    return case


def main():
    torch.manual_seed(3)
    torch.set_num_threads(1)
    print(json.dumps({
        "adam": [adam_case(416, 1, 1e-3, 0.0, "Adam"), adam_case(416, 7, 3e-3, 0.1, "AdamW"),
                 adam_case(416, 1000, 5e-4, 0.1, "Adam"),
                 adam_case(416, 7, 3e-3, 0.0, "Adam", size=1e-8)],
        "norm": [norm_case(5, 24, 1, 1e-6, True), norm_case(4, 16, 1 / math.sqrt(3), 1e-6, True),
                 norm_case(4, 24, 1 / math.sqrt(7), 1e-6, False)],
        "rope": [rope_case(9, 2, 8, 10000.0)], "swiglu": [swiglu_case(6, 20)],
        "loss": [loss_case(8, 13, 1), loss_case(6, 31, 4), loss_case(266, 3, 3)],
        "sum": [sum_case(6, 20, 4 ** 0.25)], "accumulate": [accumulate_case(5, 6, 7)],
        "models": [model_case(True), model_case(False)]}))


if __name__ == "__main__":
    main()
