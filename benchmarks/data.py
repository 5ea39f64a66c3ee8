"""The share of its time that training waits for data: a table of 10 million rows and a text of 1 GB, with the options that train has.

Each data set is written to a temporary folder, read by ``throughtime train``, and trained on in a process of its own. Waiting is the time
between asking for a batch and having it; the share is of the time of whole steps, from asking to the changed weights. Memory is the
greatest resident set of the process, of which the imports of torch take the part that is told beside it.

    python benchmarks/data.py [--rows 10000000] [--bytes 1000000000] [--steps 300] [--threads 1] [--json FILE]
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from throughtime.data import AbstractStream, Batch

COLUMNS = ("load", "wind", "sun", "rain", "price", "heat", "oil")


class Timed(AbstractStream):
    """A stream that notes how long each batch took."""

    def __init__(self, stream: AbstractStream) -> None:
        self.stream, self.seconds = stream, list[float]()

    def __len__(self) -> int:
        return len(self.stream)

    def __getitem__(self, i: int) -> Batch:
        return self.stream[i]

    def at(self, step: int) -> Batch:
        started = time.perf_counter()
        batch = self.stream.at(step)
        self.seconds.append(time.perf_counter() - started)
        return batch


def write_table(path: Path, rows: int, block: int = 500_000) -> None:
    """Hours of seven columns that go up and down with the day, as Parquet."""
    import polars as pl

    rng, parts = np.random.default_rng(0), []
    for start in range(0, rows, block):
        t = np.arange(start, min(start + block, rows))
        day = np.sin(2 * np.pi * t / 24)
        values = {name: (day * (i + 1) + rng.normal(size=len(t))).astype(np.float32) for i, name in enumerate(COLUMNS)}
        parts.append(pl.DataFrame({"hour": t, **values}))
    pl.concat(parts).write_parquet(path)


def write_text(path: Path, size: int) -> None:
    """Words in sentences of a vocabulary of 20,000, as many bytes as asked for."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = ["".join(rng.choice(letters, 1 + rng.poisson(4))) for _ in range(20_000)]
    with path.open("w") as file:
        while file.tell() < size:
            drawn = np.minimum(rng.zipf(1.3, 200_000) - 1, len(words) - 1)
            file.write(" ".join(words[i] + (".\n" if k % 12 == 11 else "") for k, i in enumerate(drawn)))


def measured(kind: str, folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """In this process: prepare, train, and tell the numbers."""
    from throughtime.cli import main
    from throughtime.training import RunFolder, resumed

    before = peak()
    words = {"table": ["series", str(folder / "table.parquet"), "--time", "hour", "--target", "oil", "--features", ",".join(COLUMNS[:-1])]}
    words["text"] = ["text", str(folder / "text.txt")]
    started = time.perf_counter()
    run, few = folder / kind, ["--eval-tokens", "2000", "--eval-every", "1000000", "--threads", str(chosen.threads)]
    if main(["train", *words[kind], "--steps", "1", "--out", str(run), *few]):
        raise SystemExit(f"train {kind} failed")
    prepared, reading = time.perf_counter() - started, peak()
    stored = RunFolder.open(run)
    config = replace(stored.config, loop=replace(stored.config.loop, steps=1 + chosen.steps))  # type: ignore[type-var]
    with resumed(RunFolder(run, config)) as training:
        timed = training.stream = Timed(training.stream)
        from throughtime.training import _loop

        with _loop.Report(training.folder, Console(quiet=True), step=1) as training.report:
            training.model.train()
            steps = []
            for _ in range(chosen.steps):
                started = time.perf_counter()
                training.one_step(training.report)
                steps.append(time.perf_counter() - started)
    shares = [wait / step for wait, step in zip(timed.seconds, steps, strict=True)]
    return {
        "data": kind,
        "share": sum(timed.seconds) / sum(steps),
        "median_share": statistics.median(shares),
        "wait_ms": 1e3 * statistics.median(timed.seconds),
        "step_ms": 1e3 * statistics.median(steps),
        "read_s": prepared,
        "imports_mib": before,
        "peak_reading_mib": reading,
        "peak_mib": peak(),
    }


def peak() -> float:
    """The greatest resident set so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def in_a_process(kind: str, folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    arguments = ["--of", kind, str(folder), "--steps", str(chosen.steps), "--threads", str(chosen.threads)]
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--bytes", type=int, default=1_000_000_000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--of", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.of is not None:
        print(json.dumps(measured(chosen.of[0], Path(chosen.of[1]), chosen)))
        return
    found = []
    for kind in ("table", "text"):
        with tempfile.TemporaryDirectory() as aside:
            folder = Path(aside)
            write_table(folder / "table.parquet", chosen.rows) if kind == "table" else write_text(folder / "text.txt", chosen.bytes)
            found.append(in_a_process(kind, folder, chosen))
    table = Table(box=None)
    for name in found[0]:
        table.add_column(name, justify="right")
    for row in found:
        table.add_row(*(value if isinstance(value, str) else f"{value:.3g}" for value in row.values()))
    Console(width=160).print(table)
    if chosen.json is not None:
        about = {
            "machine": platform.platform(),
            "rows": chosen.rows,
            "bytes": chosen.bytes,
            "steps": chosen.steps,
            "threads": chosen.threads,
        }
        chosen.json.write_text(json.dumps(about | {"rows_of_results": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
