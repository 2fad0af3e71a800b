"""Writes tokenizer.model: a SentencePiece tokenizer of 64 pieces, fewer than any golden model's
vocabulary, so that programs can be tried on the golden directories with text.

    pip install sentencepiece && python tests/golden/make_tokenizer.py

Trained on a sentence; "identity" instead of Unicode's normalisation keeps the file small.
"""

import io
from pathlib import Path

import sentencepiece

TEXT = "the quick brown fox jumps over the lazy dog while one sly old cat sits by the door"


def main():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT] * 20), model_writer=model, vocab_size=64, model_type="bpe",
        normalization_rule_name="identity", character_coverage=1.0, minloglevel=2)
    (Path(__file__).resolve().parent / "tokenizer.model").write_bytes(model.getvalue())


if __name__ == "__main__":
    main()
