"""What PyTorch says of the depth of the golden models gpt2 and llama.

Writes <case>/depth.json. Run (one thread, seconds, no GPU; after make_golden.py):

    pip install torch transformers safetensors numpy && python tests/golden/make_depth.py

The tokens of expected.safetensors, one row after another, are cut into windows of TOKENS, each of
which predicts the token after each of its own; the last window is shorter. All is computed in
float64 by transformers' own layers: streams are output_hidden_states (whose last one is taken from
the last layer by a hook: transformers shows it after the final norm), a layer is left out by
deleting it from the list, and Jacobians are autograd's, in full.
"""

import json
import math
import sys
from pathlib import Path

import numpy
import torch
import transformers
from safetensors.torch import load_file

sys.dont_write_bytecode = True
from make_golden import in_double  # noqa: E402

TOKENS = 25
FILLING = 0  # what a short window is filled up with, for the reference's last position
MODELS = {"gpt2": transformers.GPT2LMHeadModel, "llama": transformers.LlamaForCausalLM}


def layers_of(model):
    return model.transformer.h if hasattr(model, "transformer") else model.model.layers


def first_of(output):
    return output[0] if isinstance(output, tuple) else output


def states_of(model, window):
    """The streams (L + 1, T, C) before each layer and after the last; and after the final norm."""
    last = []
    hook = layers_of(model)[-1].register_forward_hook(
        lambda module, inputs, output: last.append(first_of(output)))
    hidden = model(window[None], output_hidden_states=True, use_cache=False).hidden_states
    hook.remove()
    return torch.stack([*hidden[:-1], last[0]])[:, 0], hidden[-1][0]


def angle(x, y):
    return torch.nn.functional.cosine_similarity(x, y, dim=-1).clamp(-1, 1).acos() / math.pi


def loss_of(model, windows):
    losses = [torch.nn.functional.cross_entropy(
        model(window[None], use_cache=False).logits[0, :len(targets)], targets, reduction="none")
        for window, targets in windows]
    return torch.cat(losses).mean().item()


def loss_without(model, layer, windows):
    layers = layers_of(model)
    removed, place = layers[layer], list(layers)
    del layers[layer]
    loss = loss_of(model, windows)
    layers.extend([removed])  # anything: the list is filled anew
    for i, kept in enumerate(place):
        layers[i] = kept
    return loss


def reference_rows(model, tokens, count):
    """As the reference draws them: the last position, each row relative."""
    layers = len(layers_of(model))
    rows = numpy.zeros((layers - 1, layers))
    for start in range(0, count * TOKENS, TOKENS):
        window = tokens[start:start + TOKENS]
        window = torch.nn.functional.pad(window, (0, TOKENS - len(window)), value=FILLING)
        states, final = states_of(model, window)
        shown = torch.stack([*states[:-1], final])[:, -1]
        for n in range(1, layers):
            for layer in range(layers + 1 - n):
                rows[n - 1, layer] += angle(shown[layer], shown[layer + n]).item() / count
    relative = []
    for n, row in enumerate(rows, start=1):
        row = numpy.clip(row, *numpy.percentile(row, (1, 99)))
        row = (row - row.min()) / (row.max() - row.min())
        relative.append(row[:layers - n].tolist())
    return relative


def jacobian(model, layer, window, stream):
    """(T,C,T,C) of one layer, at a stream (T,C) before it."""
    class Done(Exception):
        pass

    def output(x):
        def replace(module, inputs, kwargs):
            return (x[None], *inputs[1:]), kwargs

        def stop(module, inputs, output):
            raise Done(first_of(output)[0])
        module = layers_of(model)[layer]
        hooks = [module.register_forward_pre_hook(replace, with_kwargs=True),
                 module.register_forward_hook(stop)]
        try:
            model(window[None], use_cache=False)
        except Done as done:
            return done.args[0]
        finally:
            for hook in hooks:
                hook.remove()
        raise AssertionError("the layer was not called")
    return torch.autograd.functional.jacobian(output, stream)


def jacobian_distances(model, windows):
    distances = []
    for layer in range(len(layers_of(model))):
        mean, squares, tokens = 0, 0, 0
        for window, _ in windows:
            with torch.no_grad():
                stream = states_of(model, window)[0][layer]
            count, width = stream.shape
            full = jacobian(model, layer, window, stream)
            mean = mean + torch.einsum("tatb->ab", full)
            full = full.reshape(count * width, -1) - torch.eye(count * width)
            squares += full.square().sum().item()
            tokens += count
        mean = (mean / tokens - torch.eye(width)).norm().item() / math.sqrt(width)
        distances.append({"token_mean": mean, "whole": math.sqrt(squares / tokens / width)})
    return distances


@torch.no_grad()
def streams(model, windows):
    variances, distances = 0, 0
    count = sum(len(window) for window, _ in windows)
    for window, _ in windows:
        states, _ = states_of(model, window)
        variances = variances + states.var(-1, unbiased=False).sum(-1) / count
        distances = distances + angle(states[:, None], states[None]).sum(-1) / count
    layers = len(states) - 1
    rows = [[distances[layer, layer + n].item() for n in range(1, layers - layer + 1)]
            for layer in range(layers)]
    return variances.tolist(), rows


def gradient_norms(model, windows):
    """Of the mean loss over all targets, by layer: over all parameters of a layer."""
    model.zero_grad()
    count = sum(len(targets) for _, targets in windows)
    for window, targets in windows:
        logits = model(window[None], use_cache=False).logits[0, :len(targets)]
        (torch.nn.functional.cross_entropy(logits, targets, reduction="sum") / count).backward()
    return [math.sqrt(sum(p.grad.square().sum().item() for p in layer.parameters()))
            for layer in layers_of(model)]


def make(case):
    folder = Path(__file__).resolve().parent / case
    model = in_double(MODELS[case].from_pretrained(folder, dtype=torch.float32))
    tokens = load_file(folder / "expected.safetensors")["tokens"].flatten().long()
    count = (len(tokens) - 2) // TOKENS + 1
    windows = [(tokens[start:start + TOKENS], tokens[start + 1:start + TOKENS + 1])
               for start in range(0, count * TOKENS, TOKENS)]
    variances, distances = streams(model, windows)
    with torch.no_grad():
        expected = {
            "tokens_per_sequence": TOKENS, "sequences": count, "tokens": len(tokens),
            "targets": len(tokens) - 1, "variances": variances, "distances": distances,
            "reference_distances": reference_rows(model, tokens, count),
            "loss": loss_of(model, windows),
            "loss_without": [loss_without(model, layer, windows)
                             for layer in range(len(layers_of(model)))]}
    expected["gradient_norms"] = gradient_norms(model, windows)
    expected["jacobian"] = jacobian_distances(model, windows[:4])
    (folder / "depth.json").write_text(json.dumps(expected, indent=1) + "\n")
    print(case, expected)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    for name in sys.argv[1:] or MODELS:
        make(name)
