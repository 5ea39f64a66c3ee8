"""Seconds until something happens: importing, the command's help, and the first step of a run."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ._row import OURS, Row, Spread

ROUNDS = 3
TEXT = "the big red cat sat on the old mat and looked at the dog.\n" * 4000


def rows(threads: int, seconds: float) -> Iterator[Row]:
    """Each a process of its own, in turns; the first round, which reads files from the disk, does not count."""
    imports = {OURS: python("import torch, throughtime; throughtime.GRU"), "torch.nn": python("import torch; torch.nn.GRU")}
    yield Row("start-up", "import and name a layer", "s", in_turns(imports))
    yield Row("start-up", "throughtime --help", "s", in_turns({OURS: command("--help")}))
    yield Row("start-up", "first step of throughtime train text", "s", in_turns({OURS: first_step}))


def in_turns(contestants: dict[str, Callable[[], float]]) -> dict[str, Spread]:
    found = [{name: run() for name, run in contestants.items()} for _ in range(1 + ROUNDS)][1:]
    return {name: Spread.of([one[name] for one in found]) for name in contestants}


def python(program: str) -> Callable[[], float]:
    return process([sys.executable, "-c", program])


def command(*words: str) -> Callable[[], float]:
    return process([sys.executable, "-m", "throughtime", *words])


def process(words: list[str]) -> Callable[[], float]:
    """Seconds of a process."""

    def run() -> float:
        start = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True)
        return time.perf_counter() - start

    return run


def first_step() -> float:
    """Seconds until a run of one step has reported it; what it does after that, the validation and the pictures, is cut short."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        text, run = Path(folder) / "text.txt", Path(folder) / "run"
        text.write_text(TEXT)
        words = [sys.executable, "-m", "throughtime", "train", "text", str(text), "--out", str(run), "--steps", "1"]
        start = time.perf_counter()
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            metrics = run / "metrics.jsonl"
            while not (metrics.exists() and '"kind": "train"' in metrics.read_text()):
                if process.poll() is not None:
                    raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}")
                time.sleep(0.002)
            return time.perf_counter() - start
        finally:
            process.kill()
            process.wait()
