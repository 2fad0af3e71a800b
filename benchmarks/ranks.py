#!/usr/bin/env python3
"""What ranks cost: the training step of a recipe by N ranks on CPUs, against one rank with as many
threads in all; in turns, so that what else the machine does falls on both.

    benchmarks/ranks.py RECIPE [section.key=value …] [--ranks 2] [--threads 1] [--rounds 4] [--steps 20]

Runs build/benchmark_training, and mpirun from the PATH, with passive waiting. Prints a JSON object for
each round, with what the program said of both, and one with the medians: efficiency is tokens/s of N
ranks by those of one; hidden, the part of the sums that computing hides.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
LAUNCHER = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np"]


def measure(options, ranks):
    threads = options.threads * options.ranks // ranks
    command = [*LAUNCHER, str(ranks)] if ranks > 1 else []
    command += [options.build / "benchmark_training", options.recipe, *options.overrides,
                "run.directory=none", "run.device=cpu", f"run.threads={threads}",
                "--steps", str(options.steps)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False,
                          env=os.environ | {"OMP_WAIT_POLICY": "passive"})
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each rank (1)")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20, help="of each kind in a round (20)")
    options = parser.parse_intermixed_args()
    rounds = []
    for number in range(options.rounds):
        # Who comes first changes with each round.
        order = [1, options.ranks] if number % 2 == 0 else [options.ranks, 1]
        said = {ranks: measure(options, ranks) for ranks in order}
        one, many = said[1], said[options.ranks]
        rounds.append({"efficiency": many["tokens_per_second"] / one["tokens_per_second"],
                       "one": one, "many": many})
        print(json.dumps(rounds[-1]), flush=True)
    hidden = [each["many"]["communication"]["hidden"] for each in rounds]
    print(json.dumps({
        "recipe": options.recipe, "overrides": options.overrides,
        "ranks": options.ranks, "threads_of_a_rank": options.threads,
        "efficiency": statistics.median(each["efficiency"] for each in rounds),
        "tokens_per_second_of_one": statistics.median(
            each["one"]["tokens_per_second"] for each in rounds),
        "tokens_per_second_of_many": statistics.median(
            each["many"]["tokens_per_second"] for each in rounds),
        "hidden": statistics.median(hidden)}))


if __name__ == "__main__":
    main()
