#!/usr/bin/env python3
"""Golden numbers of multiple choice: what EleutherAI's lm-evaluation-harness says of tiny models.

make_multiple_choice.py     (torch, transformers, lm-eval 0.4.13, tokenizers; no network)

Writes multiple_choice/: a gpt2 of width 16 and context 40 as transformers saves it, with a
byte-level BPE of 300 tokens trained on the sentences below; questions.jsonl; and expected.json: of
each case the harness's log-likelihoods (question by question, choice by choice), its accuracies and
their standard errors. Cases: that model with its own tokenizer and with one id a byte, and the case
llama of make_golden.py with tokenizer.model. The harness reads the questions itself, through a task
whose YAML would be TASK. Whatever decides an answer is either a tie or clear (MARGIN).
"""

import json
import os
import random
import shutil
import tempfile
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")

import lm_eval
import numpy as np
import tokenizers
import torch
import transformers
from lm_eval.models.huggingface import HFLM

GOLDEN = Path(__file__).resolve().parent
FOLDER = GOLDEN / "multiple_choice"
QUESTIONS = FOLDER / "questions.jsonl"
CONTEXT, VOCABULARY, END_OF_TEXT, MARGIN = 40, 300, "<|endoftext|>", 1e-3
TASK = {"task": "questions", "dataset_path": "json", "test_split": "test",
        "dataset_kwargs": {"data_files": {"test": str(QUESTIONS)}},
        "output_type": "multiple_choice", "doc_to_text": "{{query}}", "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "metric_list": [{"metric": metric} for metric in ("acc", "acc_norm", "acc_bytes")]}
ENDS = ("", " ", "\n", "\u3000", " \t", "\u00a0", "\u2028\n", "\x1f", "\u200b")  # the last: no space
WORDS = ("fox river stone evening quiet bread window garden letter storm café naïve straße "
         "日本 two three small red walks sees finds under over the a of and").split()


def questions(numbers):
    def words(least, most):
        return " ".join(numbers.choice(WORDS) for _ in range(numbers.randint(least, most)))

    rows = [
        {"query": "", "choices": ["the fox", "a river", "two"], "gold": 1},
        {"query": "", "choices": [" the fox", "the  fox"], "gold": 0},
        {"query": "a tie", "choices": ["same", "same", "other words of it"], "gold": 1},
        {"query": "a tie again", "choices": ["x", "same", "same"], "gold": 1},
        {"query": "spaces", "choices": [" one", "  two", "three "], "gold": 2},
        {"query": "one choice", "choices": ["it"], "gold": 0},
        {"query": "12 ends in a break\n\n", "choices": ["\nthe", "river"], "gold": 0},
    ]
    for number in range(33):
        long = number % 5 == 4
        query = words(30, 60) if long else words(1, 6)
        choices = [words(1, 4)[:20] for _ in range(numbers.randint(2, 5))]
        if number % 4 == 3:
            choices[0] = " " + choices[0]
        rows.append({"query": query + ENDS[number % len(ENDS)], "choices": choices,
                     "gold": numbers.randrange(len(choices))})
    return rows


def make_model():
    torch.manual_seed(7)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        n_embd=16, n_layer=2, n_head=2, n_positions=CONTEXT, vocab_size=VOCABULARY,
        activation_function="gelu_new", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=VOCABULARY - 1, eos_token_id=VOCABULARY - 1))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            gain = parameter.ndim == 1 and name.endswith("weight")
            parameter.uniform_(0.5, 1.5) if gain else parameter.normal_(0, 0.3)
    model.save_pretrained(FOLDER)
    (FOLDER / "generation_config.json").unlink()


def make_bpe(rows):
    trained = tokenizers.ByteLevelBPETokenizer(add_prefix_space=False)
    texts = [row["query"] + " " + " ".join(row["choices"]) for row in rows]
    trained.train_from_iterator(texts, vocab_size=VOCABULARY - 1, min_frequency=2,
                                show_progress=False)
    model = json.loads(trained.to_str())["model"]
    vocabulary = {**model["vocab"], END_OF_TEXT: VOCABULARY - 1}
    assert sorted(vocabulary.values()) == list(range(VOCABULARY))
    (FOLDER / "vocab.json").write_text(json.dumps(vocabulary) + "\n")
    (FOLDER / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(" ".join(merge) + "\n" for merge in model["merges"]))


def byte_tokenizer():
    """One id a byte, 256 ends a text."""
    printed = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    other = [byte for byte in range(256) if byte not in printed]
    character = {**{byte: chr(byte) for byte in printed},
                 **{byte: chr(256 + place) for place, byte in enumerate(other)}}
    vocabulary = {**{character[byte]: byte for byte in range(256)}, END_OF_TEXT: 256}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT)


def llama_with_tokenizer():
    folder = Path(tempfile.mkdtemp())
    for name in ("llama/config.json", "llama/model.safetensors", "tokenizer.model"):
        shutil.copy(GOLDEN / name, folder)
    return folder


def ask(folder, tokenizer, rows):
    model = HFLM(pretrained=str(folder), tokenizer=tokenizer, dtype="float32", device="cpu",
                 batch_size=8)
    answer = lm_eval.simple_evaluate(model=model, tasks=[TASK], log_samples=True,
                                     bootstrap_iters=100)
    samples = sorted(answer["samples"]["questions"], key=lambda sample: sample["doc_id"])
    scores = [[log_likelihood for log_likelihood, _ in sample["filtered_resps"]]
              for sample in samples]
    for row, score in zip(rows, scores):
        for size in (1, [len(choice) for choice in row["choices"]],
                     [len(choice.encode()) for choice in row["choices"]]):
            values = np.array(score) / size
            gaps = values.max() - values
            assert ((gaps == 0) | (gaps > MARGIN)).all(), (row, values)
    result = {"log_likelihoods": scores}
    for metric in ("acc", "acc_norm", "acc_bytes"):
        result[metric] = answer["results"]["questions"][metric + ",none"]
        result[metric + "_stderr"] = answer["results"]["questions"][metric + "_stderr,none"]
    return result


def main():
    FOLDER.mkdir(exist_ok=True)
    rows = questions(random.Random(5))
    QUESTIONS.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    make_model()
    make_bpe(rows)
    llama = llama_with_tokenizer()
    expected = {"gpt2": ask(FOLDER, None, rows), "bytes": ask(FOLDER, byte_tokenizer(), rows),
                "sentencepiece": ask(llama, None, rows)}
    shutil.rmtree(llama)
    for case, result in expected.items():
        print(case, {key: value for key, value in result.items() if key != "log_likelihoods"})
    lines = [f'"{case}": {json.dumps(result)}' for case, result in expected.items()]
    (FOLDER / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    for file in FOLDER.iterdir():
        file.chmod(0o644)


if __name__ == "__main__":
    main()
