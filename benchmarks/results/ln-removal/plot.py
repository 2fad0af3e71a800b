"""Draws losses.svg and stds.svg from the runs' metrics beside this file (needs matplotlib)."""

import json
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

HERE = pathlib.Path(__file__).parent
PLACES = {"mlp": "tab:blue", "attention_qk": "tab:orange", "attention_v": "tab:green",
          "final": "tab:red"}


def rows(name):
    with open(HERE / f"{name}.jsonl", encoding="utf-8") as lines:
        return [row for row in map(json.loads, lines) if not row.get("discarded")]


def validation(name):
    found = [(row["step"], row["validation_loss"]["techdocs"]) for row in rows(name)
             if "validation_loss" in row]
    return zip(*found)


def removals():
    return [(row["step"], row["event"]["site"]) for row in rows("ln-removal")
            if row.get("event", {}).get("kind") == "remove"]


def save(figure, name):
    figure.tight_layout()
    figure.savefig(HERE / name, metadata={"Date": None})


def draw_losses():
    figure, axes = plt.subplots(figsize=(8, 4))
    for step, site in removals():
        axes.axvline(step, color=PLACES[site], linewidth=0.7, alpha=0.6)
    for name, colour in (("vanilla", "black"), ("ln-removal", "tab:purple")):
        axes.plot(*validation(name), color=colour, marker=".", label=name)
    for site, colour in PLACES.items():
        axes.plot([], [], color=colour, linewidth=0.7, label=f"a norm of {site} is removed")
    axes.set(xlabel="step", ylabel="validation loss, nats per byte")
    axes.legend()
    save(figure, "losses.svg")


def draw_stds():
    figure, axes = plt.subplots(figsize=(8, 4))
    followed = {}
    for row in rows("ln-removal"):
        for site, std in row.get("norm_std", {}).items():
            followed.setdefault(site, []).append((row["step"], std))
    for site, points in followed.items():
        if site.startswith("attention_v"):
            continue  # shares its std with queries and keys
        place = site.split(".")[0]
        axes.plot(*zip(*points), color=PLACES[place], linewidth=0.9)
        axes.annotate(site.split(".")[-1], points[-1], fontsize=7, color=PLACES[place])
    for place in ("mlp", "attention_qk", "final"):
        axes.plot([], [], color=PLACES[place], label=place)
    axes.set(xlabel="step", ylabel="σ", yscale="log")
    axes.legend()
    save(figure, "stds.svg")


draw_losses()
draw_stds()
