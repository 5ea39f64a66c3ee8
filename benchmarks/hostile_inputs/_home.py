"""Whole files of every kind that is read, and a small run of every task."""

import json
import math
import random
import shutil
from pathlib import Path

import numpy as np

SERIES = "--target level --features day --time time --horizon 3 --context 8".split()
SMALL = "--hidden 5 --batch-size 4 --bptt 8 --steps 4 --threads 1".split()
TRAININGS = (  # of each run, by its name
    ("text", "train text book.txt"),
    ("words", "train text book.txt --level word"),
    ("pieces", "train text book.txt --level bpe --vocab-size 270"),
    ("lines", "train text lines.jsonl"),
    ("series", " ".join(["train series table.csv", *SERIES])),
    ("frames", "train frames rolls.npz"),
    ("labels", "train labels labelled.npz"),
)


class Home:
    """The files and the runs, made once; ``fresh`` gives a copy."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir(parents=True)
        for write in (book, table, arrays, documents):
            write(place)

    def trainings(self) -> list[list[str]]:
        """What is to be called in ``place`` to have the runs."""
        return [[*words.split(), "--out", name, *SMALL] for name, words in TRAININGS]

    def fresh(self, place: Path) -> None:
        shutil.copytree(self.place, place)


def book(place: Path) -> None:
    words, rng = "the a big old red cat dog owl sat lay on under mat log box".split(), random.Random(0)
    (place / "book.txt").write_text("".join(" ".join(rng.choices(words, k=7)) + ".\n" for _ in range(100)))


def table(place: Path) -> None:
    import polars

    rows = [f"2024-01-{1 + h // 24:02d} {h % 24:02d}:00,{math.sin(h / 4):.4f},{h % 7}" for h in range(240)]
    (place / "table.csv").write_text("\n".join(["time,level,day", *rows, ""]))
    polars.read_csv(place / "table.csv").write_parquet(place / "table.parquet")


def arrays(place: Path) -> None:
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    rolls = (rng.random((8, 12, 5)) < 0.3).astype(np.uint8)
    parts = {"train": rolls[:6], "valid": rolls[6:7], "test": rolls[7:]}
    np.savez(place / "rolls.npz", **parts)
    np.save(place / "rolls.npy", rolls)
    savemat(place / "rolls.mat", {f"{name}data": _cells(part) for name, part in parts.items()}, do_compression=True)
    np.savez(place / "labelled.npz", x=rng.standard_normal((20, 9, 3)), y=np.arange(20) % 3, lengths=np.full(20, 9))
    rows = [f"{i},{t},{rng.standard_normal():.3f},{'abc'[i % 3]}" for i in range(15) for t in range(6)]
    (place / "labelled.csv").write_text("\n".join(["id,t,x,label", *rows, ""]))


def _cells(pieces: np.ndarray) -> np.ndarray:
    """MATLAB's cell array: an object for each piece."""
    found = np.empty((1, len(pieces)), dtype=object)
    found[0, :] = list(pieces)
    return found


def documents(place: Path) -> None:
    lines = (json.dumps({"text": f"the {n} cats and the {n} dogs sat on the mat"}) + "\n" for n in range(60))
    (place / "lines.jsonl").write_text("".join(lines))
