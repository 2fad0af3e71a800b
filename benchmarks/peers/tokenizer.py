#!/usr/bin/env python3
"""GPT-2's BPE here and in tiktoken, on one core, in one run: the same ids, and how fast.

    benchmarks/peers/tokenizer.py build/benchmark_tokenizer TOKENIZER_DIR FILE… [--torture N]

TOKENIZER_DIR holds vocab.json and merges.txt. A FILE is a text (one document), or *.jsonl or
*.jsonl.gz whose lines have a "text"; it is read once, whole. --torture adds N random strings of
every plane, ill-formed UTF-8 among them. Needs: pip install tiktoken (0.12 or newer). No network.
Prints a JSON object a set, and exits with 1 where an id differs. Speeds are megabytes by the
processor's seconds of the process, which other work on the machine disturbs least.
"""
import argparse
import array
import gzip
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time

import tiktoken

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests" / "data"))
import torture  # noqa: E402

PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def byte_of_character():
    """The inverse of bytes_to_unicode in GPT-2's encoder.py."""
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in itself]
    table = {chr(byte): byte for byte in itself}
    table.update({chr(0x100 + i): byte for i, byte in enumerate(others)})
    return table


def encoding(folder):
    """tiktoken's, from a tokenizer's two files: a merge's rank is the id of what it gives."""
    table = byte_of_character()
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    special = {token: id for token, id in vocabulary.items() if token == "<|endoftext|>"}
    ranks = {bytes(table[character] for character in token): id
             for token, id in vocabulary.items() if token not in special}
    return tiktoken.Encoding("from files", pat_str=PATTERN, mergeable_ranks=ranks,
                             special_tokens=special)


def documents_of(file):
    if file.name.endswith((".jsonl", ".jsonl.gz")):
        opened = gzip.open if file.name.endswith(".gz") else open
        with opened(file, "rb") as lines:
            return [json.loads(line)["text"].encode() for line in lines]
    return [file.read_bytes()]


def ours(program, folder, documents):
    """Its own figures, and the ids of all documents, each ended by end-of-text."""
    with tempfile.TemporaryDirectory() as scratch:
        source, ids = pathlib.Path(scratch, "documents"), pathlib.Path(scratch, "ids")
        with open(source, "wb") as out:
            for document in documents:
                out.write(struct.pack("<I", len(document)) + document)
        command = [program, f"gpt2:{folder}", str(source), "--ids", str(ids)]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        return json.loads(printed), array.array("H", ids.read_bytes())


def theirs(peer, documents):
    texts = [document.decode("utf-8", "replace") for document in documents]
    begin = time.process_time()
    encoded = [peer.encode_ordinary(text) for text in texts]
    seconds = time.process_time() - begin
    ids = array.array("H")
    for document in encoded:
        ids.extend(document)
        ids.append(peer.eot_token)
    return seconds, ids


def compare(name, program, folder, peer, documents):
    figures, ids = ours(program, folder, documents)
    seconds, peer_ids = theirs(peer, documents)
    equal = ids == peer_ids
    megabytes = figures["bytes"] / 1e6
    print(json.dumps({"set": name, "documents": len(documents), "bytes": figures["bytes"],
                      "tokens": figures["tokens"], "equal_ids": equal,
                      "megabytes_per_second": round(megabytes / figures["processor_seconds"], 1),
                      "tiktoken_megabytes_per_second": round(megabytes / seconds, 1)}),
          flush=True)
    if not equal:
        at = next((i for i, (a, b) in enumerate(zip(ids, peer_ids)) if a != b),
                  min(len(ids), len(peer_ids)))
        print(f"{name}: ids differ from token {at} on: {list(ids[at:at + 8])}, tiktoken "
              f"{list(peer_ids[at:at + 8])}", file=sys.stderr)
    return equal


def main():
    arguments = argparse.ArgumentParser(description=__doc__,
                                        formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program", help="build/benchmark_tokenizer")
    arguments.add_argument("tokenizer", type=pathlib.Path, help="folder of vocab.json, merges.txt")
    arguments.add_argument("files", nargs="*", type=pathlib.Path)
    arguments.add_argument("--torture", type=int, default=0, help="random strings")
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    if hasattr(os, "sched_setaffinity"):  # one core for both; the program inherits it
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    peer = encoding(given.tokenizer)
    equal = True
    for file in given.files:
        equal &= compare(file.name, given.program, given.tokenizer, peer, documents_of(file))
    for first in range(0, given.torture, 500_000):
        count = min(500_000, given.torture - first)
        strings = torture.strings(count, given.seed + first)
        equal &= compare(f"torture {first}", given.program, given.tokenizer, peer, strings)
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
