#!/usr/bin/env python3
"""Golden numbers of every placement of norms: placements.json.

make_placements.py > placements.json     (PyTorch, any version; no network)

A tiny LLaMA in float64, each placement written out from its formula (models/config.h names the
papers), gradients by autograd. Weights are a function of a parameter's name and the element, so that
none is stored. Of each case: the logits (B·T,V), the mean loss, and for each parameter, by our names,
the L2 norm of its gradient and its first element.
"""

import json
import math
import sys

import torch

WIDTH, HEADS, FEED_FORWARD, VOCABULARY, BATCH, TOKENS = 12, 2, 16, 13, 2, 7
HEAD_SIZE = WIDTH // HEADS
EPSILON = 1e-2  # large, so that it shows where N(x/√l) is not N(x)


def number(name, shape):
    """The parameter `name`: 0.4·sin(k + 0.7e + 0.013e²), k = Σ (i + 1)·character i mod 997; around 1
    where it is a factor."""
    key = sum((i + 1) * ord(letter) for i, letter in enumerate(name)) % 997
    count = math.prod(shape)
    factor = name.endswith((".gain", ".slope", ".branch_scale"))
    values = [0.4 * math.sin(key + 0.7 * e + 0.013 * e * e) + (1.0 if factor else 0.0)
              for e in range(count)]
    return torch.tensor(values, dtype=torch.float64).reshape(shape).requires_grad_()


class Tiny:
    def __init__(self, case):
        self.case = case
        self.parameters = {}

    def get(self, name, *shape):
        if name not in self.parameters:
            self.parameters[name] = number(name, shape)
        return self.parameters[name]

    def norm(self, name, x):
        gain = self.get(name + ".gain", WIDTH)
        kind = self.case["kind"]
        if kind == "rmsnorm":
            return x / torch.sqrt((x * x).mean(-1, keepdim=True) + EPSILON) * gain
        bias = self.get(name + ".bias", WIDTH)
        slope = self.get(name + ".slope", 1)
        if kind == "dyt":
            return gain * torch.tanh(slope * x) + bias
        return gain * torch.erf(slope * x + self.get(name + ".shift", 1)) + bias

    def attention(self, prefix, x):
        packed = x @ self.get(prefix + ".qkv.weight", 3 * WIDTH, WIDTH).T
        q, k, v = (part.reshape(BATCH, TOKENS, HEADS, HEAD_SIZE).transpose(1, 2)
                   for part in packed.split(WIDTH, -1))
        position = torch.arange(TOKENS, dtype=torch.float64)[:, None]
        frequency = 10000.0 ** (-torch.arange(0, HEAD_SIZE, 2, dtype=torch.float64) / HEAD_SIZE)
        angle = torch.cat([position * frequency] * 2, -1)

        def rotate(a):
            half = torch.cat([-a[..., HEAD_SIZE // 2:], a[..., :HEAD_SIZE // 2]], -1)
            return a * angle.cos() + half * angle.sin()

        scores = rotate(q) @ rotate(k).transpose(-1, -2) / math.sqrt(HEAD_SIZE)
        future = torch.triu(torch.ones(TOKENS, TOKENS, dtype=torch.bool), 1)
        z = scores.masked_fill(future, -math.inf).softmax(-1) @ v
        z = z.transpose(1, 2).reshape(BATCH, TOKENS, WIDTH)
        return z @ self.get(prefix + ".out.weight", WIDTH, WIDTH).T

    def mlp(self, prefix, x):
        gate, up = (x @ self.get(prefix + ".in.weight", 2 * FEED_FORWARD, WIDTH).T).split(
            FEED_FORWARD, -1)
        return (torch.nn.functional.silu(gate) * up) @ self.get(prefix + ".out.weight", WIDTH,
                                                                FEED_FORWARD).T

    def block(self, layer):
        """pre, post or sandwich; layer from 0."""
        placement = self.case["placement"]
        fourth = (layer + 1) % 4 == 0
        return {"pre": "pre", "lns": "pre", "post": "post", "deepnorm": "post",
                "deepnorm_reference": "post", "sandwich": "sandwich", "peri": "sandwich",
                "mix": "post" if layer < self.case.get("post_layers", 1) else "pre",
                "pre_post": "pre" if layer < 7 else "post",
                "pre_sandwich": "pre" if layer < 7 else "sandwich",
                "post_pre_post_pre": "pre" if fourth else "post",
                "pre_post_pre_post": "post" if fourth else "pre"}[placement]

    def sublayer(self, layer, name, x):
        f = self.attention if name == "attention" else self.mlp
        prefix = f"layers.{layer}.{name}"
        placement = self.case["placement"]
        block = self.block(layer)
        root = math.sqrt(layer + 1)
        lns = placement == "lns" and self.case.get("lns_sublayers", "both") in ("both", name)
        position = self.case.get("lns_position", "after_norm") if lns else ""

        def branch(x):
            y = f(prefix, x)
            if block == "sandwich":
                y = self.norm(prefix + ".output_norm", y)
            kind = self.case.get("branch", "none")
            if kind != "none":
                y = self.get(prefix + ".branch_scale", WIDTH if kind == "layerscale" else 1) * y
            return y

        if block == "post":
            alpha = 1.0
            if placement == "deepnorm":
                alpha = (2 * self.case["layers"]) ** 0.25
            if placement == "deepnorm_reference":
                alpha = 2.8284271247461903
            x = self.norm(prefix + ".norm", alpha * x + branch(x))
        elif position == "before_norm":
            x = x + branch(self.norm(prefix + ".norm", x / root))
        elif position == "after_norm":
            x = x + branch(self.norm(prefix + ".norm", x) / root)
        elif position == "after_sublayer":
            x = x + branch(self.norm(prefix + ".norm", x)) / root
        elif position == "after_residual":
            x = (x + branch(self.norm(prefix + ".norm", x))) / root
        else:
            x = x + branch(self.norm(prefix + ".norm", x))
        if self.case.get("gpas"):
            gate = self.get(f"layers.{layer}.gpas", 1)
            x = x - torch.nn.functional.silu(gate) * x.detach()
        return x

    def logits(self, ids):
        x = self.get("embedding.token", VOCABULARY, WIDTH)[ids]
        if self.case["placement"] == "peri":
            x = self.norm("embedding.norm", x)
        for layer in range(self.case["layers"]):
            x = self.sublayer(layer, "attention", x)
            x = self.sublayer(layer, "mlp", x)
        return self.norm("final.norm", x) @ self.get("head.weight", VOCABULARY, WIDTH).T


def cases():
    def case(placement, layers=3, kind="rmsnorm", **more):
        return {"placement": placement, "layers": layers, "kind": kind, **more}

    return [case("pre"), case("post"), case("deepnorm"), case("deepnorm_reference"),
            case("mix", post_layers=2), case("sandwich"), case("peri"), case("lns"),
            case("lns", lns_position="before_norm"), case("lns", lns_position="after_sublayer"),
            case("lns", lns_position="after_residual"), case("lns", lns_sublayers="attention"),
            case("lns", lns_sublayers="mlp"), case("pre_post", 8), case("pre_sandwich", 8),
            case("post_pre_post_pre", 5), case("pre_post_pre_post", 5),
            case("pre", branch="layerscale"), case("pre", branch="skipinit"),
            case("sandwich", branch="layerscale"), case("deepnorm", branch="skipinit"),
            case("pre", gpas=True), case("post", gpas=True), case("pre", kind="dyt"),
            case("pre", kind="derf"), case("peri", kind="derf"), case("lns", kind="dyt")]


def batch():
    """Tokens and targets (B,T)."""
    ids = torch.tensor([[(5 * b + 3 * t + t * t) % VOCABULARY for t in range(TOKENS)]
                        for b in range(BATCH)])
    targets = torch.tensor([[(7 * b + 2 * t + 1) % VOCABULARY for t in range(TOKENS)]
                            for b in range(BATCH)])
    return ids, targets


def golden(case):
    model = Tiny(case)
    ids, targets = batch()
    logits = model.logits(ids).reshape(-1, VOCABULARY)
    loss = torch.nn.functional.cross_entropy(logits, targets.reshape(-1))
    loss.backward()
    gradients = {name: [parameter.grad.norm().item(), parameter.grad.flatten()[0].item()]
                 for name, parameter in model.parameters.items()}
    return {"case": case, "loss": loss.item(), "logits": logits.flatten().tolist(),
            "gradients": gradients}


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(golden(case)) for case in cases())
    sys.stdout.write("[\n" + lines + "\n]\n")
