"""Exports golden models whose norms are removed, wholly or partly, and compares what transformers
computes with each export with the golden model in PyTorch, its norms replaced here by hand.

    python tests/golden/check_removed.py build/export

Needs torch and transformers; ends with 77 (skipped, for CTest) where they are missing. Logits must
be equal to 1e-4 of the largest in fp32 and to rounding in bf16 and fp16, in eager and sdpa
attention; generation with a cache must give the tokens that it gives without, and what transformers
saves again must be the same model. Where TransformerLens and nnsight are installed, they open the
exports as their README.md says, with the same logits.
"""

import importlib.util
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
BOUNDS = {"fp32": 1e-4, "bf16": 0.1, "fp16": 1e-2}
CASES = ("gpt2", "llama", "llama_tied", "mistral", "qwen2")
# Gates of the norms, in turn: 0 is removed, 1 live.
REMOVED, PARTLY = (0.0,), (0.0, 1.0, 0.3, 0.0)


class ByHand(torch.nn.Module):
    """The norm as it was, but that 1/std is gate/std + (1 - gate)/sigma; a mean where it has a bias."""

    def __init__(self, weight, bias, epsilon, state):
        super().__init__()
        self.weight, self.bias, self.epsilon, self.state = weight, bias, epsilon, state

    def forward(self, x):
        gate, sigma = self.state
        x = x if self.bias is None else x - x.mean(-1, keepdim=True)
        std = (x.pow(2).mean(-1, keepdim=True) + self.epsilon).sqrt()
        y = x * (gate / std + (1 - gate) / sigma) * self.weight
        return y if self.bias is None else y + self.bias


class TwoReaders(torch.nn.Module):
    """GPT-2's c_attn, of which queries and keys read one norm's output and values another's."""

    def __init__(self, reader, of_queries, of_values):
        super().__init__()
        self.reader, self.of_queries, self.of_values = reader, of_queries, of_values

    def forward(self, x):
        queries_and_keys, values = (self.reader(norm(x)).chunk(3, dim=-1)
                                    for norm in (self.of_queries, self.of_values))
        return torch.cat((*queries_and_keys[:2], values[2]), dim=-1)


@torch.no_grad()
def states_of(model, tokens, centres, gates):
    """{(site, layer): (gate, sigma)} of every norm; sigma: the mean std there, a little off, so that
    it is another for values than for queries and keys."""
    gpt2 = hasattr(model, "transformer")
    body = model.transformer if gpt2 else model.model
    norms = {("final", None): body.ln_f if gpt2 else body.norm}
    for layer, block in enumerate(body.h if gpt2 else body.layers):
        before, after = ((block.ln_1, block.ln_2) if gpt2 else
                         (block.input_layernorm, block.post_attention_layernorm))
        norms |= {("attention_qk", layer): before, ("attention_v", layer): before,
                  ("mlp", layer): after}
    inputs = {}
    hooks = [norm.register_forward_pre_hook(lambda norm, args: inputs.update({norm: args[0]}))
             for norm in set(norms.values())]
    model(tokens)
    for hook in hooks:
        hook.remove()

    def mean_std(x):
        x = x - x.mean(-1, keepdim=True) if centres else x
        return x.pow(2).mean(-1).sqrt().mean().item()
    return {site: (gates[i % len(gates)], mean_std(inputs[norm]) * (0.9 + 0.03 * i))
            for i, (site, norm) in enumerate(norms.items())}


def by_hand(model, states, epsilon, biases):
    """Replaces the norms of a stock model. `biases`: of norms that have some, by name, else {}."""
    gpt2 = hasattr(model, "transformer")
    body = model.transformer if gpt2 else model.model

    def norm(old, name, site, layer=None):
        bias = old.bias if gpt2 else biases.get(name + ".bias")
        return ByHand(old.weight, bias, epsilon, states[site, layer])

    for layer, block in enumerate(body.h if gpt2 else body.layers):
        prefix = f"model.layers.{layer}."
        if gpt2:
            block.attn.c_attn = TwoReaders(
                block.attn.c_attn, *(norm(block.ln_1, "", site, layer)
                                     for site in ("attention_qk", "attention_v")))
            block.ln_1 = torch.nn.Identity()
            block.ln_2 = norm(block.ln_2, "", "mlp", layer)
            continue
        name, attention = prefix + "input_layernorm", block.self_attn
        for part, site in (("q", "attention_qk"), ("k", "attention_qk"), ("v", "attention_v")):
            reader = getattr(attention, part + "_proj")
            setattr(attention, part + "_proj", torch.nn.Sequential(
                norm(block.input_layernorm, name, site, layer), reader))
        block.input_layernorm = torch.nn.Identity()
        name = prefix + "post_attention_layernorm"
        block.post_attention_layernorm = norm(block.post_attention_layernorm, name, "mlp", layer)
    if gpt2:
        body.ln_f = norm(body.ln_f, "", "final")
    else:
        body.norm = norm(body.norm, "model.norm", "final")
    return model


def write_source(folder, target, states, biases):
    """The golden model as a checkpoint has it once its norms are in these states."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    norms = [{"site": site, "layer": layer, "gate": gate, "std": sigma}
             for (site, layer), (gate, sigma) in states.items() if gate != 1]
    config["normlab"] = {"norms": norms}
    if biases:
        config["model_type"] = "normlab"
        config["normlab"] |= {"family": "llama", "norm": "layernorm"}
        weights = load_file(target / "model.safetensors") | biases
        save_file(weights, target / "model.safetensors")
    (target / "config.json").write_text(json.dumps(config))


def export(program, source, target, *options):
    subprocess.run([program, source, "--out", target, *options], check=True,
                   stderr=subprocess.DEVNULL)


def load(folder, attention):
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation=attention, output_loading_info=True, trust_remote_code=True)
    assert not any(report.values()), report
    return model.eval()


@torch.no_grad()
def logits(model, tokens):
    return model.float()(tokens).logits


def difference(actual, expected):
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@torch.no_grad()
def check_generation(model, tokens):
    settings = dict(max_new_tokens=12, do_sample=False, pad_token_id=0)
    cached, plain = (model.generate(tokens[:, :5], use_cache=cache, **settings)
                     for cache in (True, False))
    assert torch.equal(cached, plain), (cached, plain)


def check_export(folder, dtype, tokens, expected, what):
    for attention in ("eager", "sdpa"):
        error = difference(logits(load(folder, attention), tokens), expected)
        print(f"{what}, {dtype}, {attention}: logits differ by {error:.1e} of the largest")
        assert error <= BOUNDS[dtype], (what, dtype, attention, error)
    if dtype != "fp32":
        return
    model = load(folder, "sdpa")
    check_generation(model, tokens)
    again = folder.with_name(folder.name + "-again")
    model.save_pretrained(again)
    assert torch.equal(logits(load(again, "sdpa"), tokens), logits(model, tokens)), what


def check(program, case, scratch, gates, layernorm=False):
    folder = GOLDEN / case
    stock = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    config = stock.config
    epsilon = config.layer_norm_epsilon if case == "gpt2" else config.rms_norm_eps
    tokens = torch.arange(40).mul(31).remainder(config.vocab_size).view(1, -1)
    states = states_of(stock, tokens, case == "gpt2" or layernorm, gates)
    torch.manual_seed(5)
    biases = {name.replace("weight", "bias"): torch.randn_like(value) * 0.2
              for name, value in stock.state_dict().items() if layernorm and "norm" in name}
    expected = logits(by_hand(stock, states, epsilon, biases), tokens)
    what = case + (" of layernorm" if layernorm else "") + ("" if gates == REMOVED else ", partly")
    root = scratch / what.replace(" ", "-")
    write_source(folder, root / "source", states, biases)
    formats = {"folded": BOUNDS}
    if gates == REMOVED and not layernorm:
        formats["hf-ln-free"] = ("fp32", "bf16")
    for name, dtypes in formats.items():
        for dtype in dtypes:
            target = root / f"{name}-{dtype}"
            export(program, root / "source", target, "--format", name, "--dtype", dtype)
            check_export(target, dtype, tokens, expected, f"{what}, {name}")
        for package, look, cases in (("transformer_lens", check_lens, ("gpt2",)),
                                     ("nnsight", check_nnsight, ("gpt2", "llama"))):
            if case in cases and gates == REMOVED and importlib.util.find_spec(package):
                look(root / f"{name}-fp32", tokens, expected, f"{what}, {name}")
    if "hf-ln-free" in formats:
        check_published(program, root, tokens, expected, what)


@torch.no_grad()
def check_lens(folder, tokens, expected, what):
    from transformer_lens.model_bridge import TransformerBridge
    sys.path.insert(0, str(folder))
    from load_transformer_lens import load as load_without_norms
    loaders = {"no norm": load_without_norms}
    if "hf-ln-free" in what:
        loaders["stock"] = lambda path: TransformerBridge.boot_transformers(path, device="cpu")
    for name, loader in loaders.items():
        model = loader(str(folder))
        error = difference(model(tokens), expected)
        print(f"{what}, TransformerLens, {name}: logits differ by {error:.1e} of the largest")
        assert error <= BOUNDS["fp32"], (what, name, error)
        if name == "stock":
            continue
        _, cache = model.run_with_cache(tokens)
        assert not any("hook_scale" in key for key in cache), list(cache)
        parts = cache.decompose_resid().sum(0)
        logits_of_parts = parts @ model.W_U + model.b_U
        assert difference(logits_of_parts, expected) <= BOUNDS["fp32"], what
    sys.path.pop(0)


def check_nnsight(folder, tokens, expected, what):
    from nnsight import TransformersModel
    model = TransformersModel(str(folder), task="text-generation", trust_remote_code=True,
                              device_map="cpu", dispatch=True,
                              tokenizer=transformers.GPT2Tokenizer(vocab={"a": 0}, merges=[]))
    with model.trace(tokens):
        output = model.output.logits.save()
    error = difference(output, expected)
    print(f"{what}, nnsight: logits differ by {error:.1e} of the largest")
    assert error <= BOUNDS["fp32"], (what, error)


def check_published(program, root, tokens, expected, what):
    """The paper's form, without a word of ours, is read as LN-free."""
    published = root / "published"
    export(program, root / "source", published, "--format", "hf-ln-free", "--scale", "1e6")
    config = json.loads((published / "config.json").read_text())
    del config["normlab"]
    assert 1e12 in (config.get("layer_norm_epsilon"), config.get("rms_norm_eps")), config
    (published / "config.json").write_text(json.dumps(config))
    check_export(published, "fp32", tokens, expected, f"{what}, published")
    export(program, published, root / "folded-of-published", "--format", "folded")
    check_export(root / "folded-of-published", "fp32", tokens, expected, f"{what}, folded of it")


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    program = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        for case in CASES:
            check(program, case, Path(scratch), REMOVED)
            check(program, case, Path(scratch), PARTLY)
        for gates in (REMOVED, PARTLY):
            check(program, "llama", Path(scratch), gates, layernorm=True)


if __name__ == "__main__":
    main()
