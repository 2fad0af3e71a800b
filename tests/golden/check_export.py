"""Exports every golden model and compares the logits of what transformers then loads with those of
the model exported, in eager and sdpa attention.

    python tests/golden/check_export.py build/export

Needs torch and transformers; ends with 77 (skipped, for CTest) where they are missing. Each case is
exported in fp32, bf16 and fp16: the fp32 export must give the very logits of the golden directory,
the others those of the golden model with its weights rounded by PyTorch. Nothing may be missing or
unexpected, an export of an export must be the same files, and so must an export of the model
saved in several files; a model saved in half precision must come out as its numbers.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import torch
    import transformers
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

GOLDEN = Path(__file__).resolve().parent
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load(folder, attention, dtype=None):
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation=attention, output_loading_info=True, dtype=dtype or "auto")
    assert not any(report.values()), report
    return model.eval()


@torch.no_grad()
def logits(model, tokens):
    return model.float()(tokens).logits


def export(program, source, target, *options):
    subprocess.run([program, source, "--out", target, "--format", "hf", *options], check=True,
                   stderr=subprocess.DEVNULL)


def check(program, folder, scratch):
    source = transformers.AutoConfig.from_pretrained(folder)
    tokens = torch.arange(72).mul(31).remainder(source.vocab_size).view(1, -1)
    for name, dtype in DTYPES.items():
        target = scratch / f"{folder.name}-{name}"
        export(program, folder, target, "--dtype", name)
        for attention in ("eager", "sdpa"):
            model = load(target, attention)
            assert model.dtype == dtype, model.dtype
            assert model.config.model_type == source.model_type, model.config.model_type
            expected = logits(load(folder, attention, dtype), tokens)
            error = (logits(model, tokens) - expected).abs().max().item()
            print(f"{folder.name}, {name}, {attention}: logits differ by {error:.1e} "
                  f"of {expected.abs().max().item():.1f}")
            assert error == 0, (folder, name, attention)
    check_forms(program, folder, scratch)
    again = scratch / f"{folder.name}-again"
    export(program, scratch / f"{folder.name}-fp32", again)
    for file in (scratch / f"{folder.name}-fp32").iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes(), file


def check_forms(program, folder, scratch):
    """Several files with an index, and half precision, as transformers saves them."""
    model = load(folder, "sdpa")
    model.save_pretrained(scratch / "shards", max_shard_size="50KB")
    assert len(list((scratch / "shards").glob("*.safetensors"))) > 1
    export(program, scratch / "shards", scratch / f"{folder.name}-of-shards")
    one, other = (scratch / f"{folder.name}-{form}" / "model.safetensors"
                  for form in ("fp32", "of-shards"))
    assert one.read_bytes() == other.read_bytes(), other
    for name in ("bf16", "fp16"):
        half = load(folder, "sdpa", DTYPES[name])
        half.save_pretrained(scratch / name)
        widened = scratch / f"{folder.name}-of-{name}"
        export(program, scratch / name, widened)
        state = load(widened, "sdpa").state_dict()
        assert all(torch.equal(value.float(), state[key])
                   for key, value in half.state_dict().items()), name
    for form in ("shards", *list(DTYPES)[1:]):
        shutil.rmtree(scratch / form)
    print(f"{folder.name}: the same from shards, bf16 and fp16")


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    program = Path(sys.argv[1]).resolve()
    folders = sorted(file.parent for file in GOLDEN.glob("*/config.json"))
    assert len(folders) >= 5, folders
    with tempfile.TemporaryDirectory() as scratch:
        for folder in folders:
            check(program, folder, Path(scratch))


if __name__ == "__main__":
    main()
