#!/usr/bin/env python3
"""Golden numbers of the reference's own layers: reference_placements.json.

make_reference_placements.py CHECKOUT > reference_placements.json     (PyTorch; no network)

CHECKOUT is a copy of github.com/lmsdss/LayerNorm-Scaling (made at 3ac54dd). Its LlamaDecoderLayer,
unchanged but for float64 in the place of float32, runs in every placement that works there, on the
tiny LLaMA and the numbers of make_placements.py: embedding, layers, RMSNorm and head. The form is
that of placements.json, and `stream` besides: of each layer, the last token of the last sequence
after it (C). The script asserts that logits, loss and gradients are those of make_placements.py's
own formulas to 1e-12, and prints the largest difference of each case to stderr.
"""

import json
import math
import os
import sys
import types
import typing
from pathlib import Path

import torch

import make_placements as tiny

# NORM_TYPE and POST_NUM there, and our name. From layer 7 on pre_post and pre_sandwich change.
CASES = [
    ("pre", 1, dict(placement="pre", layers=5)),
    ("post", 1, dict(placement="post", layers=5)),
    ("deeppost", 1, dict(placement="deepnorm_reference", layers=5)),
    ("sandwich", 1, dict(placement="sandwich", layers=5)),
    ("post_pre", 2, dict(placement="mix", layers=5, post_layers=2)),
    ("pre_post", 1, dict(placement="pre_post", layers=9)),
    ("pre_sandwich", 1, dict(placement="pre_sandwich", layers=9)),
    ("post_pre_post_pre", 1, dict(placement="post_pre_post_pre", layers=9)),
    ("scale_res_pre_norm", 1, dict(placement="pre", layers=5, branch="skipinit")),
]
# The reference's name of each part of a layer, and ours. Of its norms in a pre, a post and a
# sandwich block:
NORMS = {
    "pre": {"input_layernorm": "attention.norm", "post_attention_layernorm": "mlp.norm"},
    "post": {"post_attention_layernorm": "attention.norm", "post_feedforward_layernorm": "mlp.norm"},
    "sandwich": {"input_layernorm": "attention.norm",
                 "post_attention_layernorm": "attention.output_norm",
                 "pre_feedforward_layernorm": "mlp.norm",
                 "post_feedforward_layernorm": "mlp.output_norm"},
}
PRODUCTS = {"attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            "attention.out": ("self_attn.o_proj",), "mlp.in": ("mlp.gate_proj", "mlp.up_proj"),
            "mlp.out": ("mlp.down_proj",)}
SCALES = {"raw_scaling_factor_attn": "attention.branch_scale",
          "raw_scaling_factor_mlp": "mlp.branch_scale"}


def load_reference(checkout):
    """The classes of a layer. What stands around them needs an old transformers."""
    text = (Path(checkout) / "peft_pretraining" / "modeling_llama.py").read_text()
    text = text[text.index("class LlamaRMSNorm"):text.index("LLAMA_START_DOCSTRING = ")]
    text = text.replace("to(torch.float32)", "to(torch.float64)").replace(".float()", ".double()")
    names = dict(torch=torch, nn=torch.nn, math=math, os=os, LlamaConfig=types.SimpleNamespace,
                 print=lambda *_: None, ACT2FN={"silu": torch.nn.functional.silu})
    names.update({name: getattr(typing, name) for name in ("List", "Optional", "Tuple", "Union")})
    exec(compile(text, "modeling_llama.py", "exec"), names)
    return types.SimpleNamespace(**names)


def parts_of(layer, block):
    """Our name of every parameter of a layer, and the reference's parameters that make it up."""
    modules = dict(layer.named_modules())
    parts = {ours + ".gain": [modules[theirs].weight] for theirs, ours in NORMS[block].items()}
    for ours, theirs in PRODUCTS.items():
        parts[ours + ".weight"] = [modules[name].weight for name in theirs]
    parts.update({ours: [getattr(layer, theirs)] for theirs, ours in SCALES.items()
                  if hasattr(layer, theirs)})
    return parts


class Reference(torch.nn.Module):
    def __init__(self, classes, case):
        super().__init__()
        config = types.SimpleNamespace(
            hidden_size=tiny.WIDTH, intermediate_size=tiny.FEED_FORWARD, hidden_act="silu",
            num_attention_heads=tiny.HEADS, num_hidden_layers=case["layers"],
            max_position_embeddings=tiny.TOKENS, rms_norm_eps=tiny.EPSILON)
        self.layers = torch.nn.ModuleList(
            [classes.LlamaDecoderLayer(config, layer) for layer in range(case["layers"])])
        self.norm = classes.LlamaRMSNorm(tiny.WIDTH, tiny.EPSILON)
        self.embedding = torch.nn.Embedding(tiny.VOCABULARY, tiny.WIDTH)
        self.head = torch.nn.Linear(tiny.WIDTH, tiny.VOCABULARY, bias=False)
        self.double()
        self.parts = {"embedding.token": [self.embedding.weight], "final.norm.gain": [self.norm.weight],
                      "head.weight": [self.head.weight]}
        for index, layer in enumerate(self.layers):
            named = parts_of(layer, tiny.Tiny(case).block(index))
            self.parts.update({f"layers.{index}.{name}": part for name, part in named.items()})
        self.fill()

    @torch.no_grad()
    def fill(self):
        for name, parts in self.parts.items():
            rows = sum(part.shape[0] if part.ndim else 1 for part in parts)
            values = tiny.number(name, (rows, *parts[0].shape[1:]))
            for part, value in zip(parts, values.split(rows // len(parts))):
                part.copy_(value.reshape(part.shape))
        filled = sum(part.numel() for parts in self.parts.values() for part in parts)
        assert filled == sum(parameter.numel() for parameter in self.parameters())

    def forward(self, ids):
        x, stream = self.embedding(ids), []
        positions = torch.arange(tiny.TOKENS)[None]
        for layer in self.layers:
            x = layer(x, position_ids=positions)[0]
            stream.append(x[-1, -1].tolist())
        return self.head(self.norm(x)), stream


def reference_golden(classes, norm_type, post_layers, case):
    os.environ.update(NORM_TYPE=norm_type, POST_NUM=str(post_layers))
    model = Reference(classes, case)
    ids, targets = tiny.batch()
    logits, stream = model(ids)
    logits = logits.reshape(-1, tiny.VOCABULARY)
    loss = torch.nn.functional.cross_entropy(logits, targets.reshape(-1))
    loss.backward()
    gradients = {}
    for name, parts in model.parts.items():
        gradient = torch.cat([part.grad.flatten() for part in parts])
        gradients[name] = [gradient.norm().item(), gradient[0].item()]
    return {"case": case, "loss": loss.item(), "logits": logits.flatten().tolist(),
            "gradients": gradients, "stream": stream}


def difference(a, b):
    """The largest between two golden cases: of logits and loss, and of gradients by their norm."""
    assert a["gradients"].keys() == b["gradients"].keys()
    pairs = list(zip(a["logits"], b["logits"])) + [(a["loss"], b["loss"])]
    worst = max(abs(x - y) for x, y in pairs)
    for name, (norm, first) in a["gradients"].items():
        other = b["gradients"][name]
        worst = max(worst, abs(norm - other[0]) / norm, abs(first - other[1]) / norm)
    return worst


def main(checkout):
    classes, lines = load_reference(checkout), []
    for norm_type, post_layers, case in CASES:
        case = {"kind": "rmsnorm", **case}
        golden = reference_golden(classes, norm_type, post_layers, case)
        worst = difference(golden, tiny.golden(case))
        print(f"{norm_type:20} {worst:.1e}", file=sys.stderr)
        assert worst < 1e-12, norm_type
        lines.append(json.dumps(golden))
    sys.stdout.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1])
