#!/usr/bin/env python3
"""Generation here and in transformers, on the same CPU, in turns: tokens/s, the ratio, the same text.

    benchmarks/peers/pytorch_generation.py TOKENIZER_DIR [--threads 2] [--rounds 5] [--only eager | compiled]

A GPT-2 of 124M parameters with random weights, fp32, a cache of keys and values, always the likeliest
token. TOKENIZER_DIR holds GPT-2's vocab.json and merges.txt. A speed is that of the last 128 tokens of
144: the time for 144 less the time for 16, so that loading, reading the prompt and compiling count for
nobody. transformers: `generate` with SDPA; eager with its growing cache, and by torch.compile with its
static one. Needs: pip install torch transformers. No network. Prints a JSON object a round, then one
with the medians: ratio is our tokens/s by transformers' better.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROMPT = "What does a norm do in a transformer? It"
SHORT, LONG = 16, 144


def make_model(folder, tokenizer):
    import torch
    import transformers
    torch.manual_seed(1)
    config = transformers.GPT2Config(initializer_range=0.05)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(tokenizer / name, folder)


def transformers_speed(options):
    """In a process of its own."""
    import torch
    import transformers
    torch.set_num_threads(options.threads)
    tokenizer = transformers.GPT2Tokenizer.from_pretrained(options.tokenizer)
    model = transformers.GPT2LMHeadModel.from_pretrained(options.tokenizer,
                                                         attn_implementation="sdpa").eval()
    prompt = tokenizer(PROMPT, return_tensors="pt")
    settings = {"do_sample": False, "use_cache": True, "pad_token_id": tokenizer.eos_token_id}
    if options.worker == "compiled":
        model.forward = torch.compile(model.forward)
        settings["cache_implementation"] = "static"

    def generate(tokens):
        begin = time.perf_counter()
        with torch.inference_mode():
            ids = model.generate(**prompt, max_new_tokens=tokens, min_new_tokens=tokens, **settings)
        return time.perf_counter() - begin, tokenizer.decode(ids[0])

    generate(SHORT)
    if options.worker == "compiled":
        generate(LONG)  # every length that it compiles for
    short, _ = generate(SHORT)
    long, text = generate(LONG)
    print(json.dumps({"tokens_per_second": (LONG - SHORT) / (long - short), "text": text,
                      "version": f"torch {torch.__version__}, transformers "
                                 f"{transformers.__version__}"}))


def measure_transformers(options, folder, kind):
    command = [sys.executable, __file__, folder, "--worker", kind, "--threads", str(options.threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          check=False, env=os.environ | {"OMP_NUM_THREADS": str(options.threads)})
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure_ours(options, folder):
    def generate(tokens):
        begin = time.perf_counter()
        done = subprocess.run([options.build / "generate", folder, "--prompt", PROMPT, "--tokens",
                               str(tokens), "--temperature", "0", "--device", "cpu", "--threads",
                               str(options.threads)], stdout=subprocess.PIPE, check=False)
        if done.returncode != 0:
            sys.exit(done.returncode)
        return time.perf_counter() - begin, done.stdout.decode("utf-8", "replace")[:-1]

    generate(SHORT)  # the files are in memory from now on, for both
    short, _ = generate(SHORT)
    long, text = generate(LONG)
    return {"tokens_per_second": (LONG - SHORT) / (long - short), "text": text}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=pathlib.Path)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["eager", "compiled"])
    parser.add_argument("--worker", choices=["eager", "compiled"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return transformers_speed(options)
    kinds = [options.only] if options.only else ["eager", "compiled"]
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        make_model(pathlib.Path(folder), options.tokenizer)
        for number in range(options.rounds):
            # Who comes first changes with each round.
            order = ["ours", *kinds] if number % 2 == 0 else [*reversed(kinds), "ours"]
            found = {kind: measure_ours(options, folder) if kind == "ours"
                     else measure_transformers(options, folder, kind) for kind in order}
            texts = {each.pop("text") for each in found.values()}
            best = max(found[kind]["tokens_per_second"] for kind in kinds)
            rounds.append(found | {"ratio": found["ours"]["tokens_per_second"] / best,
                                   "same_text": len(texts) == 1})
            print(json.dumps(rounds[-1]), flush=True)
    summary = {"threads": options.threads,
               "ratio": statistics.median(each["ratio"] for each in rounds)}
    for kind in ("ours", *kinds):
        summary[kind] = statistics.median(each[kind]["tokens_per_second"] for each in rounds)
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
