#!/usr/bin/env python3
"""A training step here and in PyTorch, on the same CPU, in turns: tokens/s, the ratio, peak memory.

    benchmarks/peers/pytorch_training.py [gpt2-124m | llama-60m …] [--threads 2] [--rounds 5]
        [--steps 4] [--only eager | compiled]

fp32, 4 sequences of 256 tokens, random: forward, backward, clipping at 1, AdamW. PyTorch: transformers'
model with SDPA, one F.cross_entropy over all logits, fused AdamW; eager, and by torch.compile. Every
measurement is a process of its own, its first step not counted (torch.compile's: two), the median of
the others its result. Needs: pip install torch transformers. No network. Prints a JSON object a round,
then one with the medians: ratio is our tokens/s by PyTorch's better.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEQUENCES, TOKENS = 4, 256
RECIPES = {
    "gpt2-124m": ["tools/recipes/gpt2-small-vanilla.yaml", "model.from=null",
                  "model={family: gpt2, size: small, dropout: 0}"],
    "llama-60m": ["tools/recipes/llama-60m.yaml", "optimizer.gradient_clip=1"],
}


def model_of(name):
    import transformers
    if name == "gpt2-124m":
        config = transformers.GPT2Config(resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
        config._attn_implementation = "sdpa"
        return transformers.GPT2LMHeadModel(config)
    # tools/recipes/llama-60m.yaml
    config = transformers.LlamaConfig(vocab_size=32000, hidden_size=512, intermediate_size=1376,
                                      num_hidden_layers=8, num_attention_heads=8,
                                      max_position_embeddings=256, tie_word_embeddings=False)
    config._attn_implementation = "sdpa"
    return transformers.LlamaForCausalLM(config)


def pytorch_steps(options):
    """In a process of its own: seconds of each step."""
    import torch
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    model = model_of(options.models[0]).train()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.999),
                                  weight_decay=0.01, fused=True)

    def loss_of(tokens, targets):
        logits = model(input_ids=tokens, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.view(-1, logits.shape[-1]),
                                                 targets.view(-1))

    run = torch.compile(loss_of) if options.worker == "compiled" else loss_of
    vocabulary = model.config.vocab_size
    tokens = torch.randint(vocabulary, (SEQUENCES, TOKENS))
    targets = torch.randint(vocabulary, (SEQUENCES, TOKENS))
    seconds = []
    for _ in range(options.steps + (2 if options.worker == "compiled" else 1)):
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        run(tokens, targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
    print(json.dumps({"seconds": seconds[-options.steps:], "parameters": parameters,
                      "version": f"torch {torch.__version__}"}))


def output_of(command, environment):
    """What it printed, and its peak memory in bytes."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT,
                          env=os.environ | environment) as process:
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {process.returncode}")
    return text, usage.ru_maxrss * 1024


def measure_pytorch(options, name, kind):
    command = [sys.executable, __file__, name, "--worker", kind, "--threads", str(options.threads),
               "--steps", str(options.steps)]
    text, peak = output_of(command, {"OMP_NUM_THREADS": str(options.threads)})
    said = json.loads(text)
    seconds = statistics.median(said["seconds"])
    return {"tokens_per_second": SEQUENCES * TOKENS / seconds, "seconds_per_step": seconds,
            "peak_bytes": peak, "parameters": said["parameters"], "version": said["version"]}


def measure_ours(options, name):
    command = [options.build / "benchmark_training", *RECIPES[name], "run.directory=none",
               "run.device=cpu", "run.precision=fp32", f"run.threads={options.threads}",
               f"data.sequence_length={TOKENS}", f"batch.micro_batch={SEQUENCES}",
               f"batch.tokens_per_step={SEQUENCES * TOKENS}", "--steps", str(options.steps)]
    text, peak = output_of(command, {})
    said = json.loads(text)
    return {key: said[key] for key in ("tokens_per_second", "seconds_per_step", "parameters")} | {
        "peak_bytes": peak}


def compare(options, name):
    kinds = [options.only] if options.only else ["eager", "compiled"]
    rounds = []
    for number in range(options.rounds):
        # Who comes first changes with each round.
        order = ["ours", *kinds] if number % 2 == 0 else [*reversed(kinds), "ours"]
        found = {kind: measure_ours(options, name) if kind == "ours"
                 else measure_pytorch(options, name, kind) for kind in order}
        if len({each["parameters"] for each in found.values()}) > 1:
            sys.exit(f"{name} is not the same model in both")
        best = max(found[kind]["tokens_per_second"] for kind in kinds)
        rounds.append(found | {"ratio": found["ours"]["tokens_per_second"] / best})
        print(json.dumps({"model": name, **rounds[-1]}), flush=True)
    summary = {"model": name, "threads": options.threads,
               "ratio": statistics.median(each["ratio"] for each in rounds)}
    for kind in ("ours", *kinds):
        summary[kind] = {key: statistics.median(each[kind][key] for each in rounds)
                         for key in ("tokens_per_second", "peak_bytes")}
    print(json.dumps(summary), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(RECIPES))
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--only", choices=["eager", "compiled"])
    parser.add_argument("--worker", choices=["eager", "compiled"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in options.models:
        if name not in RECIPES:
            parser.error(f"{name} is none of {', '.join(RECIPES)}")
    if options.worker:
        return pytorch_steps(options)
    for name in options.models or RECIPES:
        compare(options, name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
