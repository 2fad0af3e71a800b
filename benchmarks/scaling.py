#!/usr/bin/env python3
"""How far data parallelism can go, on paper: bytes of a step, and the bound that they set.

    benchmarks/scaling.py [build/train] [--gigabits 400] [--teraflops 400]

The bytes are those of `train RECIPE --dry-run --ranks N`, bf16, each GPU with a network of its own of
so many gigabits a second each way, used to the full; latency is left out. A GPU computes so many
teraflops a second, a third of a step in the forward pass, two in the backward pass, which hides what
is sent meanwhile. Nothing here is measured. Prints two tables in Markdown.
"""
import argparse
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]
RANKS = [8, 64, 256, 512, 1024]
# Name, recipe, what completes it.
MODELS = [
    ("LLaMA 130M", "llama-130m", []),
    ("LLaMA 350M", "llama-350m", []),
    ("LLaMA 1B", "llama-1b", []),
    ("GPT-2 124M", "gpt2-small-vanilla", ["model.from=null", "model={family: gpt2, size: small}"]),
    ("GPT-2 1.5B", "gpt2-xl-vanilla", ["model.from=null", "model={family: gpt2, size: xl}"]),
]


def plan_of(train, recipe, overrides, ranks, zero_stage):
    """What --dry-run says; None where the recipe's batch has too few sequences."""
    done = subprocess.run(
        [train, ROOT / "tools" / "recipes" / f"{recipe}.yaml", "run.directory=none",
         "run.device=cuda", "run.precision=bf16", f"parallel.zero_stage={zero_stage}", *overrides,
         "--dry-run", "--json", "--ranks", str(ranks)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout)
    if "each needs one" in done.stderr:
        return None
    raise SystemExit(done.stderr)


class Bound:
    """Seconds of a step, were there nothing but what is counted."""

    def __init__(self, plan, options):
        rate = options.gigabits * 1e9 / 8
        self.late = plan["communication_bytes"]["sent_after_backward"] / rate
        self.early = plan["communication_bytes"]["sent"] / rate - self.late
        self.seconds_per_token = plan["flops_per_token"] / (options.teraflops * 1e12)

    def efficiency(self, tokens):
        computing = tokens * self.seconds_per_token
        exposed = self.late + max(0.0, self.early - computing * 2 / 3)
        return computing / (computing + exposed)

    def tokens_for(self, efficiency):
        """Of one GPU and step: the fewest with which the bound is at least so high."""
        low, high = 0, 1 << 40
        while low < high:
            middle = (low + high) // 2
            if self.efficiency(middle) >= efficiency:
                high = middle
            else:
                low = middle + 1
        return low


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def print_tables(options):
    plans = {}
    for name, recipe, overrides in MODELS:
        for zero_stage in (0, 1):
            for ranks in RANKS:
                plans[name, zero_stage, ranks] = plan_of(options.train, recipe, overrides, ranks,
                                                         zero_stage)
    cells = [f"{ranks} GPUs" for ranks in RANKS]
    row("recipe", "ZeRO", "tokens a step", "sent by a GPU", "of it after backward", *cells)
    row("---", *["---:"] * (4 + len(RANKS)))
    for name, _, _ in MODELS:
        for zero_stage in (0, 1):
            of_model = [plans[name, zero_stage, ranks] for ranks in RANKS]
            last = [plan for plan in of_model if plan][-1]
            sent = last["communication_bytes"]
            bounds = [f"{Bound(plan, options).efficiency(plan['tokens_per_step'] / ranks):.2f}"
                      if plan else "–" for plan, ranks in zip(of_model, RANKS)]
            row(name, zero_stage, f"{last['tokens_per_step']:,}", f"{sent['sent'] / 1e6:,.0f} MB",
                f"{sent['sent_after_backward'] / 1e6:,.0f} MB", *bounds)
    print()
    row("model", "ZeRO", "ms to send", "of it after backward", "0.5", "0.8", "0.9", "0.95")
    row("---", *["---:"] * 7)
    for name, _, _ in MODELS:
        for zero_stage in (0, 1):
            last = [plans[name, zero_stage, ranks] for ranks in RANKS
                    if plans[name, zero_stage, ranks]][-1]
            bound = Bound(last, options)
            tokens = [f"{bound.tokens_for(goal):,}" for goal in (0.5, 0.8, 0.9, 0.95)]
            row(name, zero_stage, f"{1e3 * (bound.early + bound.late):.1f}",
                f"{1e3 * bound.late:.1f}", *tokens)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", nargs="?", default=ROOT / "build" / "train")
    parser.add_argument("--gigabits", type=float, default=400)
    parser.add_argument("--teraflops", type=float, default=400)
    print_tables(parser.parse_args())


if __name__ == "__main__":
    main()
