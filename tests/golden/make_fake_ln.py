"""Golden removals: two tiny transformers lose all their norms, in plain PyTorch and float64.

Writes fake_ln/gpt2 and fake_ln/llama: config.json and model.safetensors, the model at the start,
and expected.json, its batches and what happens in each of its runs (fake_ln/README.md says what is
what). Nothing here comes from normlab. Run (one thread, seconds):

    pip install torch safetensors && python tests/golden/make_fake_ln.py

The semantics are those of "Transformers Don't Need LayerNorm at Inference Time" with the statistics
of a whole step: a removed norm divides by σ in place of its rows' std; σ is a running mean, by
update, of the mean std of all tokens that are no filling; a removal at s comes after s updates, and
from then on σ stays.
"""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent / "fake_ln"
LAYERS, WIDTH, HEADS, HEAD_SIZE, VOCABULARY, TOKENS = 2, 16, 2, 8, 53, 12
SEQUENCES, PASS, GROUP, UPDATES = 8, 4, 2, 20  # two passes an update, two targets a pass
END_OF_TEXT, IGNORED = 52, -1
LEARNING_RATE, BETAS, ADAM_EPSILON, WEIGHT_DECAY, CLIP = 4e-3, (0.9, 0.95), 1e-8, 0.1, 1.5
AUXILIARY_WEIGHT = 0.1
KV_HEADS, ROPE_BASE, FEED_FORWARD = 1, 500.0, 24  # llama

# Where norms go, by place: after how many updates the first layer's does, how many from one layer
# to the next, and the weight of σ's old value in an update.
PHASES = {"mlp": (3, 1, 0.3), "attention_qk": (6, 1, 0.15), "attention_v": (9, 2, 0.45),
          "final": (14, 0, 0.4)}
# A target of 0 is the mean std of a group. `special`: after how many updates ends of text, and first
# tokens, no longer have a σ of their own; none: they never have.
RUNS = {
    "gpt2": {"shared": dict(shared=True, taper=1, target=0, special=None),
             "separate_taper": dict(shared=False, taper=3, target=0, special=None),
             "special": dict(shared=True, taper=1, target=0, special=(16, 18))},
    "llama": {"shared": dict(shared=True, taper=1, target=0, special=None),
              "fixed_target": dict(shared=False, taper=3, target=0.9, special=None)},
}
EPSILON = {"gpt2": 1e-5, "llama": 1e-6}


class Sigma:
    """The running mean of one norm's std, or of one that queries, keys and values share: it moves
    until the last of them goes, with the momentum of queries and keys. Another of special tokens,
    which are those of the last of them."""

    def __init__(self, places):
        self.places = places
        self.until = max(removal_of(place) for place in places)
        self.momentum = PHASES[places[0][0]][2]
        self.value = [None, None]  # of other tokens, of special ones
        self.stds = [[], []]

    def update(self, update):
        for kind, stds in enumerate(self.stds):
            stds, self.stds[kind] = torch.cat(stds), []
            if update > self.until or len(stds) == 0:
                continue
            old, mean = self.value[kind], stds.mean().item()
            self.value[kind] = (mean if old is None
                                else self.momentum * old + (1 - self.momentum) * mean)


def removal_of(place):
    """After how many updates a norm goes, or its gate begins to fall."""
    role, layer = place
    start, gap, _ = PHASES[role]
    return start + max(layer, 0) * gap


def gate_of(place, taper, updates):
    """In the update after so many: a cosine from 1 before the removal to 0 in the taper's last."""
    fallen = min(1, max(0, updates - removal_of(place) + 1) / taper)
    return 0.0 if fallen == 1 else (1 + math.cos(math.pi * fallen)) / 2


def places():
    """Every norm, in the order in which a model meets them."""
    layers = [(role, layer) for layer in range(LAYERS)
              for role in ("attention_qk", "attention_v", "mlp")]
    return layers + [("final", -1)]


class Norms:
    """What is the same in every pass of an update: gates and σ; and the stds that passes show."""

    def __init__(self, family, shared, taper, special):
        self.family, self.taper = family, taper
        self.ends_until, self.firsts_until = special or (0, 0)
        groups = [[place] for place in places()]
        if shared:
            groups = [[place, ("attention_v", place[1])] if place[0] == "attention_qk" else [place]
                      for place in places() if place[0] != "attention_v"]
        self.sigmas = [Sigma(group) for group in groups]
        self.sigma_at = {place: sigma for sigma in self.sigmas for place in sigma.places}
        self.gates, self.updates = {}, 0
        self.tokens = self.counts = None  # of a pass; which are no filling

    def begin(self, updates):
        self.updates = updates
        self.gates = {place: gate_of(place, self.taper, updates) for place in places()}

    def begin_pass(self, tokens, lengths):
        self.tokens = tokens
        self.counts = torch.arange(TOKENS)[None] < lengths[:, None]

    def special(self, role):
        """First tokens; where values are made, ends of text too."""
        first = (torch.arange(TOKENS) == 0).expand_as(self.tokens)
        ends = (self.tokens == END_OF_TEXT) & (role == "attention_v")
        return first & (self.updates < self.firsts_until) | ends & (self.updates < self.ends_until)

    def std(self, x):
        x = x - x.mean(-1, keepdim=True) if self.family == "gpt2" else x
        return (x.pow(2).mean(-1, keepdim=True) + EPSILON[self.family]).sqrt()

    def see(self, roles, layer, x):
        """What goes into norms that read the same stream: once for each of their σ."""
        std = self.std(x).detach()[..., 0]
        for sigma in {self.sigma_at[role, layer] for role in roles}:
            special = self.special(sigma.places[-1][0])
            sigma.stds[0].append(std[self.counts & ~special])
            sigma.stds[1].append(std[self.counts & special])

    def __call__(self, place, x, gain, bias):
        gate = self.gates[place]
        inverse = gate / self.std(x)
        if gate < 1:
            others, own = self.sigma_at[place].value
            sigma = torch.full_like(x[..., :1], others)
            if own is not None:
                sigma.masked_fill_(self.special(place[0])[..., None], own)
            inverse = inverse + (1 - gate) / sigma
        x = x - x.mean(-1, keepdim=True) if self.family == "gpt2" else x
        return x * inverse * gain + bias


def attend(q, k, v):
    """q (B,T,H,D), k and v (B,T,H_kv,D) -> (B,T,H·D)."""
    k, v = (part.repeat_interleave(q.shape[2] // part.shape[2], dim=2) for part in (k, v))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    visible = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).tril()
    weights = scores.masked_fill(~visible, -math.inf).softmax(-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2)


def heads(x):
    return x.unflatten(-1, (-1, HEAD_SIZE))


def gpt2(w, tokens, norms):
    """Logits, and the final norm's input."""
    def product(x, name, columns=slice(None)):  # Conv1D: the weight is [in, out]
        return x @ w[name + ".weight"][:, columns] + w[name + ".bias"][columns]

    def norm(place, x, name):
        return norms(place, x, w[name + ".weight"], w[name + ".bias"])

    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][:tokens.shape[1]]
    for layer in range(LAYERS):
        h = f"transformer.h.{layer}."
        norms.see(("attention_qk", "attention_v"), layer, x)
        qk = norm(("attention_qk", layer), x, h + "ln_1")
        v = norm(("attention_v", layer), x, h + "ln_1")
        q, k = product(qk, h + "attn.c_attn", slice(0, 2 * WIDTH)).chunk(2, dim=-1)
        v = product(v, h + "attn.c_attn", slice(2 * WIDTH, None))
        x = x + product(attend(heads(q), heads(k), heads(v)), h + "attn.c_proj")
        norms.see(("mlp",), layer, x)
        y = norm(("mlp", layer), x, h + "ln_2")
        y = torch.nn.functional.gelu(product(y, h + "mlp.c_fc"), approximate="tanh")
        x = x + product(y, h + "mlp.c_proj")
    norms.see(("final",), -1, x)
    return norm(("final", -1), x, "transformer.ln_f") @ w["transformer.wte.weight"].T, x


def rotated(x):
    """Pairs (i, i + D/2) of every head turn by position · base^(−2i/D)."""
    half = HEAD_SIZE // 2
    rates = ROPE_BASE ** (-torch.arange(half, dtype=x.dtype) / half)
    angles = torch.arange(x.shape[1], dtype=x.dtype)[:, None, None] * rates
    first, second = x[..., :half], x[..., half:]
    return torch.cat((first * angles.cos() - second * angles.sin(),
                      second * angles.cos() + first * angles.sin()), dim=-1)


def llama(w, tokens, norms):
    def product(x, name):
        return x @ w[name + ".weight"].T

    def norm(place, x, name):
        return norms(place, x, w[name + ".weight"], 0)

    x = w["model.embed_tokens.weight"][tokens]
    for layer in range(LAYERS):
        h = f"model.layers.{layer}."
        norms.see(("attention_qk", "attention_v"), layer, x)
        qk = norm(("attention_qk", layer), x, h + "input_layernorm")
        v = norm(("attention_v", layer), x, h + "input_layernorm")
        q, k = (rotated(heads(product(qk, f"{h}self_attn.{part}_proj"))) for part in "qk")
        v = heads(product(v, h + "self_attn.v_proj"))
        x = x + product(attend(q, k, v), h + "self_attn.o_proj")
        norms.see(("mlp",), layer, x)
        y = norm(("mlp", layer), x, h + "post_attention_layernorm")
        gate, up = product(y, h + "mlp.gate_proj"), product(y, h + "mlp.up_proj")
        x = x + product(torch.nn.functional.silu(gate) * up, h + "mlp.down_proj")
    norms.see(("final",), -1, x)
    return product(norm(("final", -1), x, "model.norm"), "lm_head"), x


MODELS = {"gpt2": gpt2, "llama": llama}


def auxiliary_loss(std, tokens, lengths, given):
    """Sum over the tokens of a pass of (std − target)², std (B,T). The target: the given one, or of
    each group of sequences their mean std but for first tokens and end-of-text. No gradient goes
    through it."""
    counts = torch.arange(TOKENS)[None] < lengths[:, None]
    total = 0
    for first in range(0, len(tokens), GROUP):
        group = slice(first, first + GROUP)
        aimed = counts[group] & (tokens[group] != END_OF_TEXT) & (torch.arange(TOKENS) != 0)
        target = given if given > 0 else std[group][aimed].mean().detach()
        total = total + (std[group] - target)[counts[group]].pow(2).sum()
    return total


def one_update(family, w, optimizer, norms, batch, target):
    """Loss, auxiliary loss (weighed) and the gradient's norm before clipping."""
    tokens, targets, lengths = batch
    scored, counted = (targets != IGNORED).sum().item(), lengths.sum().item()
    optimizer.zero_grad()
    losses = [0.0, 0.0]
    for first in range(0, SEQUENCES, PASS):
        part = slice(first, first + PASS)
        norms.begin_pass(tokens[part], lengths[part])
        logits, x = MODELS[family](w, tokens[part], norms)
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), targets[part].flatten(), ignore_index=IGNORED,
            reduction="sum") / scored
        std = norms.std(x)[..., 0]
        auxiliary = AUXILIARY_WEIGHT / counted * auxiliary_loss(std, tokens[part], lengths[part],
                                                                target)
        (loss + auxiliary).backward()
        losses = [losses[0] + loss.item(), losses[1] + auxiliary.item()]
    norm = torch.cat([p.grad.flatten() for p in w.values()]).norm()
    for parameter in w.values():
        parameter.grad *= min(1.0, CLIP / norm.item())
    optimizer.step()
    return *losses, norm.item()


def run(family, start, batches, dtype, shared, taper, target, special):
    w = {name: tensor.to(dtype, copy=True).requires_grad_() for name, tensor in start.items()}
    matrices = [p for p in w.values() if p.ndim > 1]
    vectors = [p for p in w.values() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [dict(params=matrices, weight_decay=WEIGHT_DECAY), dict(params=vectors, weight_decay=0.0)],
        lr=LEARNING_RATE, betas=BETAS, eps=ADAM_EPSILON)
    norms = Norms(family, shared, taper, special)
    out = {"std": "shared" if shared else "separate", "taper_steps": taper,
           "auxiliary_target": target, "special": special,
           "loss": [], "auxiliary_loss": [], "gradient_norm": [], "gates": [], "sigmas": [],
           "special_sigmas": []}
    for updates in range(UPDATES):
        norms.begin(updates)
        batch = [part[updates] for part in batches]
        loss, auxiliary, norm = one_update(family, w, optimizer, norms, batch, target)
        for sigma in norms.sigmas:
            sigma.update(updates + 1)
        out["loss"].append(loss)
        out["auxiliary_loss"].append(auxiliary)
        out["gradient_norm"].append(norm)
        out["gates"].append([norms.gates[place] for place in places()])
        for kind, key in enumerate(("sigmas", "special_sigmas")):
            out[key].append([norms.sigma_at[place].value[kind] or 0 for place in places()])
    assert all(gate == 0 for gate in out["gates"][-1])
    clipped = [norm > CLIP for norm in out["gradient_norm"]]
    assert any(clipped) and not all(clipped), out["gradient_norm"]
    out["final_squares"] = {name: p.detach().pow(2).sum().item() for name, p in w.items()}
    return out


def shapes_of(family):
    """Every tensor of a model's file."""
    shapes = {}
    if family == "gpt2":
        shapes["transformer.wte.weight"] = (VOCABULARY, WIDTH)
        shapes["transformer.wpe.weight"] = (TOKENS, WIDTH)
        products = {"attn.c_attn": (WIDTH, 3 * WIDTH), "attn.c_proj": (WIDTH, WIDTH),
                    "mlp.c_fc": (WIDTH, 4 * WIDTH), "mlp.c_proj": (4 * WIDTH, WIDTH)}
        norms = [f"transformer.h.{layer}.{name}" for layer in range(LAYERS)
                 for name in ("ln_1", "ln_2")] + ["transformer.ln_f"]
        for layer in range(LAYERS):
            for name, shape in products.items():
                shapes[f"transformer.h.{layer}.{name}.weight"] = shape
                shapes[f"transformer.h.{layer}.{name}.bias"] = shape[1:]
        shapes |= {f"{norm}.bias": (WIDTH,) for norm in norms}
    else:
        shapes["model.embed_tokens.weight"] = shapes["lm_head.weight"] = (VOCABULARY, WIDTH)
        kv = KV_HEADS * HEAD_SIZE
        products = {"self_attn.q": (WIDTH, WIDTH), "self_attn.k": (kv, WIDTH),
                    "self_attn.v": (kv, WIDTH), "self_attn.o": (WIDTH, WIDTH),
                    "mlp.gate": (FEED_FORWARD, WIDTH), "mlp.up": (FEED_FORWARD, WIDTH),
                    "mlp.down": (WIDTH, FEED_FORWARD)}
        norms = [f"model.layers.{layer}.{name}layernorm" for layer in range(LAYERS)
                 for name in ("input_", "post_attention_")] + ["model.norm"]
        for layer in range(LAYERS):
            for name, shape in products.items():
                shapes[f"model.layers.{layer}.{name}_proj.weight"] = shape
    return shapes | {f"{norm}.weight": (WIDTH,) for norm in norms}


def random_weights(family):
    def values(name, shape):
        gain = len(shape) == 1 and name.endswith("weight")
        return torch.empty(shape).uniform_(0.5, 1.5) if gain else torch.empty(shape).normal_(0, 0.2)

    return {name: values(name, shape) for name, shape in shapes_of(family).items()}


def random_batches():
    """tokens and targets (updates, B, T), lengths (updates, B): documents one a row, filled up with
    end-of-text; some hold an end-of-text of their own, some ignore a target."""
    lengths = torch.randint(5, TOKENS + 1, (UPDATES, SEQUENCES))
    lengths[:, 0] = TOKENS
    text = torch.randint(0, END_OF_TEXT, (UPDATES, SEQUENCES, TOKENS + 1))
    text[torch.rand(text.shape) < 0.08] = END_OF_TEXT
    filling = torch.arange(TOKENS) >= lengths[..., None]
    tokens = text[..., :-1].masked_fill(filling, END_OF_TEXT)
    targets = text[..., 1:].masked_fill(filling | (torch.rand(tokens.shape) < 0.05), IGNORED)
    return tokens, targets, lengths


def config_of(family):
    if family == "gpt2":
        return dict(model_type="gpt2", n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
                    n_positions=TOKENS, vocab_size=VOCABULARY, n_inner=None,
                    layer_norm_epsilon=EPSILON[family], activation_function="gelu_new",
                    resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, tie_word_embeddings=True)
    return dict(model_type="llama", hidden_size=WIDTH, num_hidden_layers=LAYERS,
                num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=HEAD_SIZE,
                intermediate_size=FEED_FORWARD, max_position_embeddings=TOKENS,
                vocab_size=VOCABULARY, rms_norm_eps=EPSILON[family], rope_theta=ROPE_BASE,
                hidden_act="silu", tie_word_embeddings=False)


def make(family):
    torch.manual_seed(11)
    start, batches = random_weights(family), random_batches()
    runs = {name: run(family, start, batches, torch.float64, **settings)
            for name, settings in RUNS[family].items()}
    phases = {role: dict(start=first, gap=gap, momentum=momentum)
              for role, (first, gap, momentum) in PHASES.items()}
    settings = dict(phases=phases, end_of_text=END_OF_TEXT, micro_batch=PASS, auxiliary_group=GROUP,
                    auxiliary_loss_weight=AUXILIARY_WEIGHT, learning_rate=LEARNING_RATE,
                    beta1=BETAS[0], beta2=BETAS[1], epsilon=ADAM_EPSILON,
                    weight_decay=WEIGHT_DECAY, gradient_clip=CLIP)
    tokens, targets, lengths = (part.tolist() for part in batches)
    folder = HERE / family
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_of(family), indent=2) + "\n")
    save_file(start, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    expected = dict(settings=settings, tokens=tokens, targets=targets, lengths=lengths, runs=runs)
    (folder / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")
    for name, out in runs.items():
        single = run(family, start, batches, torch.float32, **RUNS[family][name])
        astray = {key: largest_error(single[key], out[key])
                  for key in ("loss", "auxiliary_loss", "gradient_norm", "sigmas")}
        norms, losses = out["gradient_norm"], out["loss"]
        print(f"{family} {name}: loss {losses[0]:.4f} -> {losses[-1]:.4f}, gradient norms "
              f"{min(norms):.2f} to {max(norms):.2f}\n"
              f"  float32 strays by {', '.join(f'{k} {v:.1e}' for k, v in astray.items())}")


def largest_error(actual, expected):
    """By the largest magnitude."""
    actual, expected = (torch.tensor(each, dtype=torch.float64) for each in (actual, expected))
    return ((actual - expected).abs().max() / expected.abs().max()).item()


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in MODELS:
        make(each)
