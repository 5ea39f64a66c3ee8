"""Chorales by Bach: how well is the next frame of 88 notes predicted? Test NLL in nats a frame, by `throughtime train frames`.

    python benchmarks/papers/chorales.py --json benchmarks/results/papers-chorales.json

JSB chorales (Boulanger-Lewandowski et al. 2012) in the file's own split: 229 pieces for training, 76 for validation, 77 for test. Bai,
Kolter & Koltun (2018, table 1), about 300K parameters: 8.91 for a simple network, 8.43 for a GRU, 8.45 for an LSTM, 8.10 for their
convolutions. Chung et al. (2014), about 20K parameters: 9.10, 8.54, 8.67.

As in Bai: the loss of all frames but the first of each piece, summed over the keys, averaged over frames; the weights that are best on
validation. Other here: several pieces side by side, and a rate that falls in a half cosine in place of one that falls where validation
does not improve; the recipe of each row was chosen on the validation pieces. Chung et al. train with weight noise, clipped to a
norm of 1, at the best of ten rates; replications of theirs disagree. Here weights decay in its place, and both sets of biases that torch
counts are among the 20K parameters.
"""

import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from _table import Outcome, Row, Table, count, main

import throughtime as tt
from throughtime.cli import main as throughtime
from throughtime.data import fetch

COMMON = "--batch-size 8 --schedule cosine --eval-every 100"
DECAYED = "--optimizer adamw --weight-decay 0.1"
RECIPES = {
    "simple network": ("8.91", f"--cell rnn --init orthogonal --hidden 300 --dropout 0.1 --lr 0.003 --epochs 80 {COMMON}"),
    "GRU": ("8.43", f"--cell gru --hidden 256 --dropout 0.25 --lr 0.015 --epochs 80 {DECAYED} {COMMON}"),
    "LSTM": ("8.45", f"--cell lstm --hidden 200 --dropout 0.2 --lr 0.01 --epochs 60 {COMMON}"),
    "simple network, 20K": ("9.10", f"--cell rnn --init orthogonal --hidden 78 --dropout 0.05 --lr 0.005 --epochs 150 {DECAYED} {COMMON}"),
    "GRU, 20K": ("8.54", f"--cell gru --init orthogonal --hidden 41 --input-dropout 0.2 --lr 0.015 --epochs 160 {DECAYED} {COMMON}"),
    "LSTM, 20K": ("8.67", f"--cell lstm --hidden 33 --dropout 0.05 --lr 0.02 --epochs 150 {DECAYED} {COMMON}"),
}


def train(file: Path, recipe: str, seed: int) -> Outcome:
    with tempfile.TemporaryDirectory() as aside:
        run = f"{aside}/run"
        status = throughtime(["train", "frames", str(file), *shlex.split(recipe), "--threads", "1", "--seed", str(seed), "--out", run])
        assert status == 0, "the command says why"
        trained = tt.load(run)
        about = {"valid": trained.evaluate("valid").nll, "updates": max(row["step"] for row in trained.metrics)}
        return Outcome(trained.evaluate("test").nll, count(trained.model), about)


def rows(small: bool) -> Sequence[Row]:
    def of(recipe: str) -> str:
        return f"{recipe} --hidden 4 --epochs 1 --batch-size 229" if small else recipe

    return [
        Row(name, paper, of(recipe), lambda seed, recipe=recipe: train(fetch("jsb-chorales"), of(recipe), seed))
        for name, (paper, recipe) in RECIPES.items()
    ]


TABLE = Table("nats a frame", ".3f", rows)

if __name__ == "__main__":
    main(TABLE, __doc__)
