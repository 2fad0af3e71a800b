#!/usr/bin/env python3
"""How the cost of a training step on a CPU grows with sequence length, width and layers, beside the
formula of the FLOPs.

    benchmarks/growth.py [--threads 2] [--rounds 3] [--steps 3]

A GPT-2 of bytes, 6 layers of width 384 (heads of 64), 2,048 tokens a step in sequences of 256; one of
the three is varied at a time. All are measured in each round; a JSON object for each, medians over the
rounds: growth is the seconds of a step by those of the smallest of its kind, formula the same for the
FLOPs that `train --dry-run` says.
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
TOKENS = 2048
BASE = {"sequence_length": 256, "width": 384, "layers": 6}
VARIED = {"sequence_length": [64, 128, 256, 512, 1024, 2048], "width": [128, 256, 384, 512, 768],
          "layers": [2, 4, 6, 8, 12]}


def recipe_of(shape, threads):
    return f"""run: {{directory: none, device: cpu, precision: fp32, threads: {threads}}}
model: {{family: gpt2, layers: {shape["layers"]}, width: {shape["width"]}, heads: {shape["width"] // 64},
        vocabulary: 257, context: 2048, dropout: 0}}
data: {{grammar: {{documents: 10}}, sequence_length: {shape["sequence_length"]}}}
batch: {{tokens_per_step: {TOKENS}, micro_batch: {TOKENS // shape["sequence_length"]}}}
optimizer: {{learning_rate: 1.0e-3, gradient_clip: 1.0}}
schedule: {{kind: constant, total_steps: 10}}
"""


def output_of(command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True,
                          check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}")
    return done.stdout


def flops_per_token(options, recipe):
    text = output_of([options.build / "train", recipe, "--dry-run"])
    return int(re.search(r"FLOPs per token: +([\d,]+)", text)[1].replace(",", ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    shapes = [(key, BASE | {key: value}) for key, values in VARIED.items() for value in values]
    seconds = [[] for _ in shapes]
    with tempfile.TemporaryDirectory() as folder:
        recipes = []
        for number, (_, shape) in enumerate(shapes):
            recipes.append(pathlib.Path(folder) / f"{number}.yaml")
            recipes[-1].write_text(recipe_of(shape, options.threads), encoding="utf-8")
        for _ in range(options.rounds):
            for number, recipe in enumerate(recipes):
                said = json.loads(output_of([options.build / "benchmark_training", recipe, "--steps",
                                             options.steps]))
                seconds[number].append(said["seconds_per_step"])
        smallest = {}
        for number, (key, shape) in enumerate(shapes):
            median = statistics.median(seconds[number])
            flops = TOKENS * flops_per_token(options, recipes[number])
            first = smallest.setdefault(key, (median, flops))
            print(json.dumps({"varied": key, **shape, "seconds_per_step": median,
                              "rounds": seconds[number], "flops": flops,
                              "gflops_per_second": round(1e-9 * flops / median, 1),
                              "growth": round(median / first[0], 3),
                              "formula": round(flops / first[1], 3)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
