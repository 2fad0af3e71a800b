"""TransformerLens (4.3) without any norm, from an LN-free GPT-2 or a folded one.

    from load_transformer_lens import load
    model = load("FOLDER")  # this folder

boot_transformers() opens an LN-free GPT-2 too, but there the norms stand, dividing by s.
"""

import json

import torch
from safetensors.torch import load_file
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge


def folded(weights, config):
    """The weights of an LN-free GPT-2 (gains times s/sigma, epsilon s*s) without norms, in double."""
    scale = config["layer_norm_epsilon"] ** 0.5
    assert scale >= 1e3, "the LayerNorms in this folder compute their std"

    def fold(weight, bias, norm):
        gained = weight * (weights.pop(norm + ".weight") / scale)[:, None]
        return gained - gained.mean(0), bias + weights.pop(norm + ".bias") @ weight

    for layer in range(config["n_layer"]):
        for norm, reader in (("ln_1", "attn.c_attn"), ("ln_2", "mlp.c_fc")):
            name = f"h.{layer}.{reader}"
            weights[name + ".weight"], weights[name + ".bias"] = fold(
                weights[name + ".weight"], weights[name + ".bias"], f"h.{layer}.{norm}")
    unembedding = weights.get("lm_head.weight", weights["wte.weight"])
    turned, weights["lm_head.bias"] = fold(unembedding.T, 0, "ln_f")
    weights["lm_head.weight"] = turned.T
    return weights


def renamed(weights, config):
    """Under the names of TransformerLens, whose matrices are [out, in]."""
    names = {"embed.weight": weights["wte.weight"], "pos_embed.weight": weights["wpe.weight"],
             "unembed.weight": weights["lm_head.weight"], "unembed.bias": weights["lm_head.bias"]}
    width = config["n_embd"]
    for layer in range(config["n_layer"]):
        here, there = f"h.{layer}.", f"blocks.{layer}."
        attention = zip("qkv", weights[here + "attn.c_attn.weight"].T.split(width),
                        weights[here + "attn.c_attn.bias"].split(width))
        for name, weight, bias in attention:
            names[f"{there}attn.{name}.weight"], names[f"{there}attn.{name}.bias"] = weight, bias
        for own, other in (("attn.c_proj", "attn.o"), ("mlp.c_fc", "mlp.in"),
                           ("mlp.c_proj", "mlp.out")):
            names[f"{there}{other}.weight"] = weights[f"{here}{own}.weight"].T
            names[f"{there}{other}.bias"] = weights[f"{here}{own}.bias"]
    return names


def load(folder, tokenizer=None, device="cpu"):
    with open(folder + "/config.json") as file:
        config = json.load(file)
    weights = {name.removeprefix("transformer."): value.double()
               for name, value in load_file(folder + "/model.safetensors").items()}
    if "ln_f.weight" in weights:
        weights = folded(weights, config)
    weights.setdefault("lm_head.weight", weights["wte.weight"])
    weights.setdefault("lm_head.bias", torch.zeros(config["vocab_size"]))
    width = config["n_embd"]
    settings = TransformerBridgeConfig(
        d_model=width, d_head=width // config["n_head"], n_heads=config["n_head"],
        n_layers=config["n_layer"], n_ctx=config["n_positions"], d_vocab=config["vocab_size"],
        d_mlp=config.get("n_inner") or 4 * width, act_fn="gelu_new", normalization_type=None,
        init_weights=False)
    model = TransformerBridge.boot_native(settings, tokenizer=tokenizer, device=device)
    model.load_state_dict({name: value.float() for name, value in
                           renamed(weights, config).items()}, strict=True)
    return model
