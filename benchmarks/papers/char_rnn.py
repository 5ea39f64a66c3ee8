"""Tiny Shakespeare by the network of char-rnn: two LSTM layers of 128 units over one-hot characters. Nats a character on held-out text.

    python benchmarks/papers/char_rnn.py --json benchmarks/results/papers-char-rnn.json
    python benchmarks/papers/char_rnn.py race --rounds 3 --json benchmarks/results/char-rnn-race.json

Karpathy's char-rnn has no number for it in a paper. Its own recipe with torch.nn (RMSProp .002, times .97 an epoch from the tenth, 50
streams, 50 steps, 50 epochs) reaches 1.3872 nats at epoch 20, measured once. As there: the text is cut into 50 streams, of each of which
the first 423 windows of 50 characters are learned and the last 23 held out, and every held-out part is read from the zero state. Other
here: the optimiser and its rate, chosen for this network; fewer epochs; of the characters between two parts 50 are predicted from the
wrong neighbour.

``race`` trains the same network by the same recipe with torch.nn too, from the same weights and on the same windows, and tells the
seconds until the held-out loss is at most 1.387. Let nothing else run beside it.
"""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from _table import Outcome, Row, Table, count, machine, main

import throughtime as tt
from throughtime.cli import main as throughtime
from throughtime.data import fetch

STREAMS, WINDOW, LEARNED, HELD_OUT = 50, 50, 423, 23
NETWORK = f"--cell lstm --layers 2 --hidden 128 --embedding 0 --batch-size {STREAMS} --bptt {WINDOW}"
RECIPE = f"{NETWORK} --init orthogonal --forget-bias 1 --optimizer nadam --lr 0.01 --schedule linear --warmup 50 --epochs 10"
TARGET = 1.387


def parts(folder: Path) -> list[str]:
    """Write what char-rnn learns from and what it holds out; name them as the command wants it."""
    text = fetch("tiny-shakespeare").read_text("utf-8")
    learned, stream = LEARNED * WINDOW, (LEARNED + HELD_OUT) * WINDOW
    starts = range(0, STREAMS * stream, stream)
    for name, begin, end in (("learned", 0, learned), ("held-out", learned, stream)):
        (folder / f"{name}.txt").write_text("".join(text[start + begin : start + end] for start in starts), "utf-8")
    return [str(folder / "learned.txt"), "--valid", str(folder / "held-out.txt")]


def train(recipe: str, seed: int) -> Outcome:
    with tempfile.TemporaryDirectory() as aside:
        run = f"{aside}/run"
        assert throughtime(["train", "text", *parts(Path(aside)), *words(recipe, seed), "--threads", "1", "--out", run]) == 0
        trained = tt.load(run)
        about = {"updates": max(row["step"] for row in trained.metrics)}
        return Outcome(trained.evaluate(streams=STREAMS).nats, count(trained.model), about)


def words(recipe: str, seed: int) -> list[str]:
    return [*shlex.split(recipe), "--seed", str(seed)]


def rows(small: bool) -> Sequence[Row]:
    recipe = RECIPE.replace("--epochs 10", "--steps 1") + " --hidden 2 --layers 1" if small else RECIPE
    return [Row("LSTM 2 × 128", "1.3872", recipe, lambda seed: train(recipe, seed))]


TABLE = Table("nats a character", ".3f", rows)


def race(chosen: Sequence[str]) -> None:
    """The same recipe here and with torch.nn, in turns."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import race as races

    parser = argparse.ArgumentParser(prog="char_rnn.py race")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--racers", default="throughtime,torch")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(chosen)
    found: dict[str, list[races.Result]] = {name: [] for name in options.racers.split(",")}
    for seed in range(options.rounds):
        for name, results in found.items():
            with tempfile.TemporaryDirectory() as aside:
                torch.manual_seed(seed)
                training = races.opened([*parts(Path(aside)), *words(options.recipe, seed)], Path(aside) / "run")
                torch.set_num_threads(options.threads)
                results.append(races.race(races.RACERS[name](training), training, TARGET))
                print(f"{name}, seed {seed}: {results[-1]}", flush=True)
    for name, results in found.items():
        print(races.line(TARGET, name, results))
    if options.json:
        about = {"command": shlex.join(["python", *sys.argv]), "machine": machine(), "torch": torch.__version__, "threads": options.threads}
        told = {name: [asdict(result) for result in results] for name, results in found.items()}
        options.json.write_text(json.dumps(about | {"recipe": options.recipe, "target": TARGET, "racers": told}, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["race"]:
        race(sys.argv[2:])
    else:
        main(TABLE, __doc__)
