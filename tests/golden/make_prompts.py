#!/usr/bin/env python3
"""Golden numbers of supervised fine-tuning: what transformers loses on completions alone.

make_prompts.py     (torch, transformers, sentencepiece; no network)

Writes prompts/examples.jsonl, prompts with completions and chats, and prompts/expected.json: of
each case (the gpt2 of make_multiple_choice.py with one id a byte, the case llama with
tokenizer.model) ids and labels of every example, made here from the text by what the field does
(labels of -100 on all but completions and the end-of-text behind them), and the mean loss over
labels in float64, an example a row cut to 33 tokens, and with all examples joined and cut into
windows of 32.
"""

import json
from pathlib import Path

import sentencepiece
import torch
import transformers

GOLDEN = Path(__file__).resolve().parent
FOLDER = GOLDEN / "prompts"
LENGTH = 32
EXAMPLES = [
    {"prompt": "the lazy dog ", "completion": "sits by the door", "source": "is not looked at"},
    {"prompt": "", "completion": "one sly old cat"},
    {"completion": " over", "prompt": "a fox jumps"},
    {"messages": [{"role": "system", "content": "be quick"},
                  {"role": "user", "content": "who jumps?"},
                  {"role": "assistant", "content": "the fox", "name": "is not looked at"},
                  {"role": "user", "content": "who sits?"},
                  {"role": "assistant", "content": "the cat"},
                  {"role": "user", "content": "is left out"}]},
    {"prompt": "a prompt that is longer than what a row shows of one ", "completion": "is cut"},
    {"messages": [{"role": "assistant", "content": "hello"}]},
]


def parts_of(example):
    """(text, whether it is learnt)."""
    if "prompt" in example:
        return [(example["prompt"], False), (example["completion"], True)]
    turns, prompt, parts = example["messages"], "", []
    for turn in turns:
        if turn["role"] == "assistant":
            parts += [(prompt + "Assistant:\n", False), (turn["content"], True)]
            prompt = ""
        else:
            prompt += ("User:\n" if turn["role"] == "user" else "") + turn["content"] + "\n"
    return parts


def encode_example(example, encode, end_of_text):
    ids, labels = [], []
    for text, learnt in parts_of(example):
        part = encode(text) + ([end_of_text] if learnt else [])
        ids += part
        labels += part if learnt else [-100] * len(part)
    return ids, labels


@torch.no_grad()
def losses(model, ids, labels):
    """Of the labels that count, summed by transformers' own loss."""
    ids, labels = torch.tensor([ids]), torch.tensor([labels])
    count = (labels[:, 1:] >= 0).sum().item()
    return (model(ids, labels=labels).loss.item() * count if count else 0.0), count


def mean_loss(model, rows):
    found = [losses(model, ids, labels) for ids, labels in rows]
    return {"loss": sum(loss for loss, _ in found) / sum(count for _, count in found),
            "targets": [count for _, count in found]}


def case(folder, encode, end_of_text):
    model = transformers.AutoModelForCausalLM.from_pretrained(GOLDEN / folder).double().eval()
    encoded = [encode_example(example, encode, end_of_text) for example in EXAMPLES]
    padded = [(ids[:LENGTH + 1], labels[:LENGTH + 1]) for ids, labels in encoded]
    ids = [number for one, _ in encoded for number in one]
    labels = [number for _, one in encoded for number in one]
    joined = [(ids[i:i + LENGTH + 1], labels[i:i + LENGTH + 1])
              for i in range(0, len(ids) - 1, LENGTH)]
    return {"model": folder, "ids": [one for one, _ in encoded],
            "learnt": [[int(label >= 0) for label in one] for _, one in encoded],
            "padded": mean_loss(model, padded), "concatenated": mean_loss(model, joined)}


def main():
    FOLDER.mkdir(exist_ok=True)
    lines = [json.dumps(example) for example in EXAMPLES]
    (FOLDER / "examples.jsonl").write_text("\n".join(lines) + "\n")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(GOLDEN / "tokenizer.model"))
    cases = [case("multiple_choice", lambda text: list(text.encode()), 256),
             case("llama", pieces.encode, pieces.eos_id())]
    text = ",\n".join(json.dumps(found) for found in cases)
    (FOLDER / "expected.json").write_text(f"[{text}]\n")


if __name__ == "__main__":
    main()
