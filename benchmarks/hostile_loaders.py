"""Bytes that coverage has led to, through every loader: each must be read, or refused by InputError; anything else is a find.

atheris (libFuzzer) changes a whole file so that it reaches lines of the loader that no other has reached. Each loader has its process.

    pip install atheris
    python benchmarks/hostile_loaders.py [--seconds 60] [--only LOADER ...] [--json FILE]
"""

import argparse
import gzip
import io
import json
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import atheris  # pyright: ignore[reportMissingImports]  it is no part of the development environment
import msgspec
import numpy as np
import polars
import torch

with atheris.instrument_imports(include=["throughtime.data", "throughtime.training", "throughtime._check"]):
    from throughtime import InputError, LanguageModel
    from throughtime._check import json_file
    from throughtime.data import vocabulary_from_json
    from throughtime.data._arrays import read_arrays
    from throughtime.data._columns import TableFile
    from throughtime.data._texts import Reading
    from throughtime.data.vocabulary import Subwords
    from throughtime.gradients import Carry
    from throughtime.training import LoopOptions, NetworkOptions, OptimiserOptions, RunFolder, TextOptions, TextRun
    from throughtime.training._files import read_tensors, write_tensors
    from throughtime.training._generators import generator_states
    from throughtime.training._rows import read_rows
    from throughtime.training._state import Progress, load_state, save_state

LONGEST = 60  # seconds that may go by, on a machine that is busy with other things
MOST_MEMORY = 4096  # megabytes
MODEL = LanguageModel(5, hidden_size=2)
OPTIMIZER = torch.optim.Adam(MODEL.parameters())


def table(path: Path) -> None:
    names = TableFile(path).names()
    TableFile(path).numbers(names)
    TableFile(path).times(names[0])


def state(path: Path) -> None:
    load_state(path, MODEL, OPTIMIZER)


LOADERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "tensors": ("x.safetensors", read_tensors),
    "state": ("state.safetensors", state),
    "config": ("config.json", lambda path: RunFolder.open(path.parent)),
    "metrics": ("metrics.jsonl", read_rows),
    "vocabulary": ("vocabulary.json", lambda path: vocabulary_from_json(json_file(path))),
    "csv": ("x.csv", table),
    "parquet": ("x.parquet", table),
    "jsonl": ("x.jsonl", lambda path: list(Reading().chunks([path], lambda done, total: None))),
    "npy": ("x.npy", read_arrays),
    "npz": ("x.npz", read_arrays),
}


def seeds(loader: str, place: Path) -> list[bytes]:
    """Whole files to begin with."""
    match loader:
        case "state":
            save_state(place, MODEL, OPTIMIZER, Carry(MODEL.initial_state(3)), generator_states(), Progress())
            return [place.read_bytes()]
        case "tensors":
            write_tensors(place, {"w": torch.randn(2, 3), "n": torch.arange(3)}, {"step": 3, "best": None})
            return [place.read_bytes()]
        case "config":
            run = TextRun(TextOptions(files=(Path("a"),)), NetworkOptions(), OptimiserOptions(), LoopOptions())
            about = {"format": 1, "throughtime": "0", "torch": "2", "task": "text"}
            return [json.dumps(about | {"run": msgspec.to_builtins(asdict(run), enc_hook=str)}).encode()]
        case "metrics":
            return [b'{"kind": "train", "step": 3, "bits_per_token": 1.5, "gradient_norm": 0.1}\n{"kind": "valid", "step": 3}\n']
        case "vocabulary":
            subwords = Subwords.count(["the cat sat on the mat. " * 20], most=270).to_json()
            given = [{"level": "char", "characters": "abc"}, {"level": "byte"}, {"level": "word", "words": ["a", "b"]}, subwords]
            return [json.dumps(each).encode() for each in given]
        case "csv":
            text = b"time,a\n2024-01-01 00:00,1.5\n2024-01-01 01:00,\n"
            return [text, gzip.compress(text), b"a;b\n1;2\n"]
        case "parquet":
            frame, written = polars.DataFrame({"time": [1, 2, 3], "a": [1.5, None, 2.0], "b": ["x", "y", "x"]}), io.BytesIO()
            frame.write_parquet(written)
            return [written.getvalue()]
        case "jsonl":
            return [b'{"text": "a cat"}\n\n{"text": "a dog", "n": 1}\n']
        case _:
            written = io.BytesIO()
            (np.save if loader == "npy" else np.savez)(written, np.arange(6.0).reshape(2, 3))
            return [written.getvalue()]


def fuzz(loader: str, seconds: int, folder: Path) -> None:
    """Never returns: libFuzzer ends the process."""
    name, read = LOADERS[loader]
    path, corpus = folder / name, folder / "corpus"
    corpus.mkdir()
    for i, seed in enumerate(seeds(loader, path)):
        (corpus / str(i)).write_bytes(seed)

    def one(content: bytes) -> None:
        path.write_bytes(content)
        try:
            read(path)
        except InputError:
            pass
        except BaseException:
            (folder / "find-0").write_bytes(content)
            raise

    for seed in corpus.iterdir():  # whatever is imported late is imported now
        one(seed.read_bytes())
    limits = [f"-max_total_time={seconds}", f"-timeout={LONGEST}", f"-rss_limit_mb={MOST_MEMORY}", "-print_final_stats=1", "-seed=1"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={folder}/find-", str(corpus)], one)
    atheris.Fuzz()


def fuzzed(loader: str, seconds: int) -> dict[str, object]:
    """How many files were tried, and what was found."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        folder = Path(name)
        if (pid := os.fork()) == 0:
            said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT)
            os.dup2(said, 1)
            os.dup2(said, 2)
            try:
                fuzz(loader, seconds, folder)
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said = (folder / "said").read_text(errors="replace")
        tried = re.search(r"number_of_executed_units: (\d+)", said)
        finds = [path.read_bytes().hex() for path in sorted(folder.glob("find-*"))]
        if status or finds:
            print(said[-3000:], file=sys.stderr)
        return {"tried": int(tried[1]) if tried else 0, "status": status, "finds": finds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="of each loader")
    parser.add_argument("--only", nargs="+", choices=LOADERS, default=list(LOADERS), metavar="LOADER")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[str, object]] = {}
    for loader in chosen.only:
        found[loader] = fuzzed(loader, chosen.seconds)
        print(f"{loader}: {found[loader]}", flush=True)
        if chosen.json:
            chosen.json.write_text(json.dumps({"benchmark": "hostile loaders", "seconds": chosen.seconds, "found": found}, indent=1))
    if any(one["status"] or one["finds"] for one in found.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
