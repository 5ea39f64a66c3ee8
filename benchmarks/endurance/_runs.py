"""The runs that are disturbed, the data that they learn from, and how two ends are compared."""

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file


@dataclass(frozen=True)
class Run:
    """Words of ``throughtime train``; the data lies in the working folder."""

    data: str
    flags: str
    steps: int = 160
    often: str = "--eval-every 20 --eval-tokens 1000 --save-every 0.02s"

    def words(self, out: Path) -> list[str]:
        words = f"train {self.data} --bptt 16 --batch-size 8 --threads 1 --steps {self.steps} {self.often} {self.flags}"
        return [*words.split(), "--out", str(out)]


TEXT = "text book.txt"
SERIES = "series table.csv --target level --features day --time time --horizon 4 --context 12"
RUNS = {
    "text, gru, chunks": Run(TEXT, "--cell gru --hidden 48 --dropout 0.2 --initial random"),
    "text, lstm, (k, 2k)": Run(TEXT, "--cell lstm --hidden 32 --layers 2 --gradient truncated:k1=8,k2=16"),
    "text, rnn, sliding": Run(TEXT, "--cell rnn --hidden 24 --gradient sliding:lags=12"),
    "text, gru, uoro": Run(TEXT, "--cell gru --hidden 16 --gradient uoro"),
    "text, rnn, rtrl": Run(TEXT, "--cell rnn --hidden 8 --embedding 0 --gradient rtrl"),
    "series, lstm, chunks": Run(SERIES, "--cell lstm --hidden 24 --layers 2 --dropout 0.2"),
    "series, gru, rtrl": Run(SERIES, "--cell gru --hidden 6 --gradient rtrl"),
    "frames, gru, chunks": Run("frames rolls.npz", "--cell gru --hidden 24 --dropout 0.2"),
    "labels, lstm, both ways": Run("labels labelled.npz", "--cell lstm --hidden 16 --bidirectional --bptt 24"),
}


class Data:
    """The same files each time."""

    def __init__(self, place: Path) -> None:
        self.place = place
        rng, numbers = random.Random(0), np.random.default_rng(0)
        words = "the a big old red cat dog owl sat lay on under mat log box".split()
        (place / "book.txt").write_text("".join(" ".join(rng.choices(words, k=7)) + ".\n" for _ in range(1000)))
        hours = (f"{np.datetime64('2024-01-01T00:00') + 60 * h},{math.sin(h / 4) + rng.gauss(0, 0.1):.4f},{h % 7}" for h in range(1000))
        (place / "table.csv").write_text("\n".join(["time,level,day", *hours, ""]))
        rolls = (numbers.random((60, 40, 12)) < 0.3).astype(np.uint8)
        np.savez(place / "rolls.npz", train=rolls[:40], valid=rolls[40:50], test=rolls[50:])
        np.savez(place / "labelled.npz", x=numbers.standard_normal((90, 24, 3)), y=np.arange(90) % 3, lengths=6 + np.arange(90) % 19)


def rows(run: Path) -> list[dict]:
    """Of metrics.jsonl, times aside; a line that is being written is left out."""
    path = run / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [{k: v for k, v in json.loads(line).items() if "second" not in k} for line in lines]


def differing(one: Path, other: Path) -> list[str]:
    """What is not the same at the end: bytes of the weights, tensors of the state, rows of the log."""
    found = [] if (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes() else ["model.safetensors"]
    a, b = load_file(one / "state.safetensors"), load_file(other / "state.safetensors")
    found += [name for name in sorted(a.keys() | b.keys()) if name not in a or name not in b or not torch.equal(a[name], b[name])]
    return found + ([] if rows(one) == rows(other) else ["metrics.jsonl"])
