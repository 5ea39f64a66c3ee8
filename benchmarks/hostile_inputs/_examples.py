"""Each number is an example: a copy of the whole files, one of them spoilt or some flags that mean nothing, and a verb to call on it."""

import random
from pathlib import Path

from throughtime.cli import _verbs
from throughtime.cli._app import VERBS
from throughtime.cli._flags import flag_names

from . import _odd
from ._home import SERIES, SMALL, Home
from ._spoil import spoil

DATA = {
    "book.txt": (
        "train text book.txt --out new",
        "evaluate text --data book.txt",
        "train text book.txt --level bpe --vocab-size 270 --out new",
    ),
    "table.csv": (f"train series table.csv {' '.join(SERIES)} --out new", "forecast series --data table.csv --out f.csv"),
    "table.parquet": (f"train series table.parquet {' '.join(SERIES)} --out new",),
    "lines.jsonl": ("train text lines.jsonl --out new", "evaluate lines --data lines.jsonl"),
    "rolls.npz": ("train frames rolls.npz --out new", "evaluate frames --data rolls.npz", "sample frames --prompt rolls.npz --out s.npy"),
    "rolls.npy": ("train frames rolls.npy --out new", "evaluate frames --data rolls.npy"),
    "rolls.mat": ("train frames rolls.mat --out new", "evaluate frames --data rolls.mat"),
    "labelled.npz": (
        "train labels labelled.npz --out new",
        "predict labels --data labelled.npz --out p.csv",
        "evaluate labels --data labelled.npz",
    ),
    "labelled.csv": ("train labels labelled.csv --time t --out new",),
}
ALL = ("evaluate {}", "flow {} --html f.html", "runs .", "compare-gradients {} --methods full,truncated")
RUN_VERBS = {
    "text": (
        *ALL,
        "sample {} --length 9",
        "export {} --to m.onnx",
        "train text --resume --out {} --steps 6",
        "train text book.txt --from {} --out new --steps 1",
        "train text book.txt --config {}/config.json --out new --steps 1",
    ),
    "frames": (*ALL, "sample {} --out s.npz", "train frames --resume --out {} --steps 6"),
    "labels": (*ALL, "predict {} --out p.csv", "train labels --resume --out {} --steps 6"),
    "series": (*ALL, "forecast {} --out f.csv", "train series --resume --out {} --steps 6"),
}
RUNS = {"text": "text", "words": "text", "pieces": "text", "lines": "text", "series": "series", "frames": "frames", "labels": "labels"}
SIZES = "hidden layers batch-size bptt steps epochs minutes length vocab-size embedding horizon context count lags threads"
PLACES = ["", "book.txt", "table.csv", "rolls.npz", "text", "series", "frames", "labels", ".", "/dev/null", "/", None]


def example(home: Home, number: int, place: Path) -> list[str]:
    """The words of one example; its files lie in ``place`` and are spoilt already."""
    rng = random.Random(number)
    home.fresh(place)
    kind = rng.random()
    if kind < 0.2:
        return [w.replace("\0", "") for w in odd_flags(rng)]
    if kind < 0.55:
        name = rng.choice(sorted(DATA))
        spoil(place / name, rng)
        words = rng.choice(DATA[name]).split()
        return words + (SMALL if words[0] == "train" else [])
    run = rng.choice(sorted(RUNS))
    spoil(rng.choice(sorted(p for p in (place / run).rglob("*") if p.is_file())), rng)
    return rng.choice(RUN_VERBS[RUNS[run]]).format(run).split()


def odd_flags(rng: random.Random) -> list[str]:
    """A verb with words that its flags do not expect. Sizes stay small: a large one that is asked for is no fault."""
    verb = rng.choice(sorted(VERBS))
    if verb == ("demo",) or verb[0] == "completion":
        return [*verb, "--zzz"]
    names, place, sizes = sorted(set(flag_names(getattr(_verbs, VERBS[verb].flags)).values())), rng.choice(PLACES), SIZES.split()
    words = [*verb, *([_odd.word(rng)] if place is None else [place] if place else [])]
    for _ in range(rng.randrange(1, 4)):
        name = rng.choice(names) if names else "--help"
        small = rng.choice(["", "-1", "0", "nan", "-inf", "1e-400", "x", "1,2", "1.5", "True"])
        value = small if name.removeprefix("--") in sizes else str(_odd.value(rng))
        words += [name, value] if rng.random() < 0.8 else [f"{name}={value}"]
    return [*words, *(["--steps", "1"] if verb[0] == "train" else [])]
