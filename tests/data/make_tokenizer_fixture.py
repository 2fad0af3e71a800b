#!/usr/bin/env python3
"""Writes tests/data/tokenizer/: small tokenizers, and ids that other programs give.

    tests/data/make_tokenizer_fixture.py [GPT2_DIR]

GPT2_DIR holds GPT-2's own vocab.json and merges.txt; without it gpt2.json stays as it is.
Needs: pip install tiktoken tokenizers sentencepiece (0.14.0, 0.23.3, 0.2.3 were used).
"""
import io
import json
import pathlib
import sys

import sentencepiece
import tiktoken
import tokenizers
import torture

ROOT = pathlib.Path(__file__).parents[2]
OUT = pathlib.Path(__file__).parent / "tokenizer"
sys.path.insert(0, str(ROOT / "benchmarks" / "peers"))
from tokenizer import PATTERN, encoding  # noqa: E402

# A language of its own, so that the tokenizers do not change with the tree's texts.
SENTENCES = [
    "The norm before the attention was removed, and the loss of the model did not change.",
    "It's what they've said: we'll train, I'd wait, you're right, he's 42, don't, I'm here.",
    "In 2024, 1234567 tokens and 0.5 of a layer;   the indented line follows.",
    "\tfor (int i = 0; i < 100; ++i) { sum += values[i]; }  // the sum of the values",
    "Die Größe der Ströme, l'été où naïve façade, ¿qué será?",
    "Текст на русском языке, и ещё один текст.", "数字と言葉の正規化について。", "😀😀 👩‍👧 ok",
]
CHOSEN = [
    "", " ", "  ", "\n", "a", " a", "  a", "a ", "a  ", "a\r\nb\r\n\r\nc", "\t\n \t\n", " \n x",
    "it's IT'S it\u2019s 'S ''s 's's don't we'llama 're've", "x<|endoftext|>y <|endoftext|>",
    "a\u200db\u200cc\u200bd\ufeffe", "e\u0301 n\u0303o\u0308 \u0915\u093f", "\u0661\u0662 \uff11\u2163\u00bd",
    "a\x00b\x00\x00 c", "1a2b 3c\u00b2d", "a\u0085b\u00a0c\u180ed\u2028e\u3000f", "\x1c\x1d\x1e\x1f",
    "a" * 300, "ab" * 200, " " * 300 + "x", "\n" * 300, "1" * 300, "'" * 300, "the" * 150,
    "\u4e2d" * 100, "\U0001f600" * 50, "\u0130I\u0131i", "\u1c89\U000105c0\U0001e4f0\U00031350 \U0001ccf0",
]
ILL_FORMED = [
    b"\xff", b"a\x80b", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xe2\x82x", b"\xed\xa0\x80\xed\xb0\x80",
    b"\xf0\x9f\x98", b"\xf0\x9f\x98\xf0\x9f\x98\x80", b"\xf4\x8f\xbf\xbf\xf4\x90\x80\x80", b"\xc0\x80",
    b"\xf5\x80\x80\x80", b"it\x80's \xe0\x9f\xbf's", bytes(range(256)), bytes(reversed(range(256))),
]


def write(name, value, **layout):
    (OUT / name).write_text(json.dumps(value, **layout) + "\n", encoding="utf-8")


def write_golden(name, texts, encode):
    """One text a line: [its bytes in hexadecimal, its ids]."""
    rows = ",\n".join(json.dumps([text.hex(), encode(text)], separators=(",", ":")) for text in texts)
    (OUT / name).write_text("[\n" + rows + "\n]\n", encoding="utf-8")


def texts():
    return [text.encode() for text in SENTENCES + CHOSEN] + ILL_FORMED + torture.strings(150, seed=5)


def small_bpe():
    """A vocabulary of 600, and what OpenAI's and Hugging Face's programs make of it alike."""
    folder = OUT / "small"
    folder.mkdir(parents=True, exist_ok=True)
    trained = tokenizers.ByteLevelBPETokenizer()
    trained.train_from_iterator(SENTENCES * 2, vocab_size=600, min_frequency=2,
                                special_tokens=["<|endoftext|>"], show_progress=False)
    trained.save_model(str(folder))
    ours = encoding(folder)

    def encode(text):
        characters = text.decode("utf-8", "replace")
        ids = ours.encode_ordinary(characters)
        # Hugging Face's takes <|endoftext|> out of a text.
        assert "endoftext" in characters or ids == trained.encode(characters).ids, text
        return ids

    write_golden("small.json", texts(), encode)


def gpt2(folder):
    ours = encoding(folder)
    write_golden("gpt2.json", texts(), lambda text: ours.encode_ordinary(text.decode("utf-8", "replace")))


def unicode_classes():
    """Ranges [first, last] of the code points of each class in tiktoken's expressions."""
    everything = [chr(value) for value in range(0x110000) if not 0xD800 <= value < 0xE000]
    byte_ranks = {bytes([byte]): byte for byte in range(256)}

    def ranges(pattern):
        matcher = tiktoken.Encoding("class", pat_str=pattern, mergeable_ranks=byte_ranks,
                                    special_tokens={})
        found = []
        for first in range(0, len(everything), 4096):
            block = "".join(everything[first:first + 4096])
            for character in bytes(matcher.encode_ordinary(block)).decode():
                if found and found[-1][1] == ord(character) - 1:
                    found[-1][1] += 1
                else:
                    found.append([ord(character)] * 2)
        return found

    classes = {"letter": r"\p{L}", "number": r"\p{N}", "blank": r"\s", "unassigned": r"\p{Cn}"}
    write("unicode_classes.json", {name: ranges(pattern) for name, pattern in classes.items()},
          separators=(",", ":"))


def sentencepieces():
    rules = OUT / "rules.tsv"
    rules.write_text("FB01\t66 69\n2460\t31\nE0\t61\n41 42 43\t61\n", encoding="utf-8")
    kinds = {"unigram": {"byte_fallback": True, "normalization_rule_name": "identity"},
             "bpe": {"eos_id": -1, "normalization_rule_name": "identity"},
             "normalised": {"normalization_rule_tsv": str(rules)}}
    for name, options in kinds.items():
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES * 2), model_writer=model, vocab_size=400,
            hard_vocab_limit=False, model_type="bpe" if name == "bpe" else "unigram",
            minloglevel=2, **options)
        (OUT / f"{name}.model").write_bytes(model.getvalue())
        processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        write_golden(f"{name}.json", texts(), processor.encode)
    rules.unlink()


if __name__ == "__main__":
    assert PATTERN
    OUT.mkdir(exist_ok=True)
    small_bpe()
    if len(sys.argv) > 1:
        gpt2(pathlib.Path(sys.argv[1]))
    unicode_classes()
    sentencepieces()
