"""Draws variance.svg, drop.svg and training.svg from the runs' metrics and the analyses beside this
file (needs matplotlib)."""

import json
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

HERE = pathlib.Path(__file__).parent
RUNS = {"pre": ("Pre-LN", "tab:orange"), "lns": ("LayerNorm Scaling", "tab:blue")}


def rows(name):
    with open(HERE / f"{name}.jsonl", encoding="utf-8") as lines:
        return [row for row in map(json.loads, lines) if not row.get("discarded")]


def depth(name):
    with open(HERE / f"{name}-depth.json", encoding="utf-8") as file:
        return json.load(file)


def save(figure, name):
    figure.tight_layout()
    figure.savefig(HERE / name, metadata={"Date": None})


def over_layers(axes, pick, **labels):
    for name, (label, colour) in RUNS.items():
        values = pick(depth(name))
        axes.plot(range(1, len(values) + 1), values, color=colour, marker=".", label=label)
    axes.set(xlabel="layer, from 1", **labels)
    axes.grid(alpha=0.3)
    axes.legend()


def draw_variance():
    figure, (variance, jacobian) = plt.subplots(1, 2, figsize=(9, 3.6))
    over_layers(variance, lambda found: found["variance"][1:], ylabel="variance of the output",
                yscale="log")
    over_layers(jacobian, lambda found: found["jacobian"]["whole"],
                ylabel="|J − I|, by random projections", yscale="log")
    save(figure, "variance.svg")


def draw_drop():
    figure, axes = plt.subplots(figsize=(6, 3.6))
    over_layers(axes, lambda found: found["loss_drop"],
                ylabel="loss without the layer, less that with it,\nnats per byte", yscale="log")
    save(figure, "drop.svg")


def draw_training():
    figure, (variance, loss) = plt.subplots(1, 2, figsize=(9, 3.6))
    for name, (label, colour) in RUNS.items():
        seen = [(row["step"], row["diagnostics"]["output_variance"]) for row in rows(name)
                if "diagnostics" in row]
        for layer, style in ((0, ":"), (5, "--"), (11, "-")):
            variance.plot([step for step, _ in seen], [values[layer] for _, values in seen],
                          style, color=colour, label=f"{label}, layer {layer + 1}")
        evaluated = [(row["step"], row["validation_loss"]) for row in rows(name)
                     if "validation_loss" in row]
        loss.plot(*zip(*evaluated), color=colour, marker=".", label=label)
    variance.set(xlabel="step", ylabel="variance of the output", yscale="log", ylim=(2e-4, 2))
    loss.set(xlabel="step", ylabel="validation loss, nats per byte")
    for axes in (variance, loss):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="lower right" if axes is variance else "upper right", ncol=2)
    save(figure, "training.svg")


draw_variance()
draw_drop()
draw_training()
