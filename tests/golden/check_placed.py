"""Exports golden models whose norms and branches are scaled (LayerNorm Scaling, LayerScale,
SkipInit) as plain ones, and compares the logits of what transformers then loads with those of the
golden model in PyTorch, its outputs scaled here by hand.

    python tests/golden/check_placed.py build/export

Needs torch and transformers; ends with 77 (skipped, for CTest) where they are missing. Logits must
be equal to 1e-5 of the largest in fp32, to rounding in bf16. What no plain model computes must be
refused with exit code 2.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import torch
    import transformers
    from safetensors.torch import load_file, save_file
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

GOLDEN = Path(__file__).resolve().parent
BOUNDS = {"fp32": 1e-5, "bf16": 0.1}
FAMILIES = {"gpt2": "gpt2", "llama": "llama", "llama_tied": "llama", "mistral": "llama",
            "qwen2": "llama"}
# The normlab section of config.json.
FOLDED = (
    {"placement": "lns"},
    {"placement": "lns", "lns_sublayers": "attention"},
    {"placement": "lns", "lns_position": "after_sublayer", "lns_sublayers": "mlp"},
    {"placement": "lns", "branch": "layerscale"},
    {"placement": "lns", "lns_position": "after_sublayer", "branch": "skipinit"},
    {"placement": "pre", "branch": "skipinit"},
)
REFUSED = (
    {"placement": "lns", "lns_position": "before_norm"},
    {"placement": "lns", "lns_position": "after_residual"},
    {"placement": "deepnorm"},
    {"placement": "post"},
    {"placement": "pre", "gpas": True},
)


def parts_of(model):
    """Of each layer: the norms and the projections after which a sublayer's output is complete."""
    if hasattr(model, "transformer"):
        return [{"attention": (block.ln_1, block.attn.c_proj), "mlp": (block.ln_2, block.mlp.c_proj)}
                for block in model.transformer.h]
    return [{"attention": (block.input_layernorm, block.self_attn.o_proj),
             "mlp": (block.post_attention_layernorm, block.mlp.down_proj)}
            for block in model.model.layers]


def scale_by_hand(model, section, branch_scales):
    """Multiplies outputs, in hooks: LayerNorm Scaling's 1/sqrt(l) is that of layer l, from 1."""
    for layer, parts in enumerate(parts_of(model)):
        for sublayer, (norm, projection) in parts.items():
            after_norm = after_branch = 1.0
            if (section["placement"] == "lns"
                    and section.get("lns_sublayers", "both") in ("both", sublayer)):
                factor = (layer + 1) ** -0.5
                if section.get("lns_position", "after_norm") == "after_norm":
                    after_norm = factor
                else:
                    after_branch = factor
            if branch_scales:
                after_branch *= branch_scales[f"normlab.layers.{layer}.{sublayer}.branch_scale"]
            norm.register_forward_hook(lambda _, args, y, by=after_norm: y * by)
            projection.register_forward_hook(lambda _, args, y, by=after_branch: y * by)


def make_branch_scales(model, section, width):
    if "branch" not in section:
        return {}
    elements = width if section["branch"] == "layerscale" else 1
    return {f"normlab.layers.{layer}.{sublayer}.branch_scale": torch.rand(elements) + 0.5
            for layer in range(len(parts_of(model))) for sublayer in ("attention", "mlp")}


def write_source(case, target, section, branch_scales):
    """The golden model as a checkpoint of such a run has it."""
    shutil.copytree(GOLDEN / case, target)
    config = json.loads((target / "config.json").read_text())
    norm = "layernorm" if FAMILIES[case] == "gpt2" else "rmsnorm"
    biases = {"gpt2": "all", "qwen2": "qkv"}.get(case, "none")
    config["model_type"] = "normlab"
    config["normlab"] = {"family": FAMILIES[case], "norm": norm, "biases": biases} | section
    (target / "config.json").write_text(json.dumps(config))
    weights = load_file(target / "model.safetensors") | branch_scales
    save_file(weights, target / "model.safetensors")


def export(program, source, target, *options):
    return subprocess.run([program, source, "--out", target, "--format", "hf", *options],
                          check=False, stderr=subprocess.PIPE, text=True)


@torch.no_grad()
def logits(folder, tokens):
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True)
    assert not any(report.values()), report
    return model.eval().float()(tokens).logits


@torch.no_grad()
def check(program, case, section, scratch):
    stock = transformers.AutoModelForCausalLM.from_pretrained(GOLDEN / case).eval()
    tokens = torch.arange(40).mul(31).remainder(stock.config.vocab_size).view(1, -1)
    plain = stock(tokens).logits
    torch.manual_seed(7)
    branch_scales = make_branch_scales(stock, section, stock.config.hidden_size)
    scale_by_hand(stock, section, branch_scales)
    expected = stock(tokens).logits
    largest = expected.abs().max()
    assert (expected - plain).abs().max() / largest > 0.1, "the factors change nothing"
    write_source(case, scratch / "source", section, branch_scales)
    for dtype, bound in BOUNDS.items():
        done = export(program, scratch / "source", scratch / dtype, "--dtype", dtype)
        assert done.returncode == 0, done.stderr
        written = json.loads((scratch / dtype / "config.json").read_text())
        assert written["model_type"] in ("gpt2", "llama", "mistral", "qwen2"), written
        error = ((logits(scratch / dtype, tokens) - expected).abs().max() / largest).item()
        print(f"{case}, {section}, {dtype}: logits differ by {error:.1e} of the largest")
        assert error <= bound, (case, section, dtype)


def check_refused(program, section, scratch):
    write_source("llama", scratch / "source", section, {})
    done = export(program, scratch / "source", scratch / "out")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done
    assert not (scratch / "out").exists(), section
    print(f"refused: {done.stderr.strip()}")


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    program = Path(sys.argv[1]).resolve()
    for case in FAMILIES:
        for section in FOLDED:
            with tempfile.TemporaryDirectory() as scratch:
                check(program, case, section, Path(scratch))
    for section in REFUSED:
        with tempfile.TemporaryDirectory() as scratch:
            check_refused(program, section, Path(scratch))


if __name__ == "__main__":
    main()
