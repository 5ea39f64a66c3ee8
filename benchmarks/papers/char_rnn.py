"""Tiny Shakespeare by the network of char-rnn: two LSTM layers of 128 units over one-hot characters. Nats a character on held-out text.

    python benchmarks/papers/char_rnn.py --json benchmarks/results/papers-char-rnn.json

Karpathy's char-rnn has no number for it in a paper. Its own recipe with torch.nn (RMSProp .002, times .97 an epoch from the tenth, 50
streams, 50 steps, 50 epochs) reaches 1.3872 nats at its best, at epoch 20, measured once with one seed. As there: the text is cut into 50
streams, of each of which the first 423 windows of 50 characters are learned and the last 23 held out, every held-out part is read from the
zero state, and the weights are those of the best epoch by the held-out text, which is so both validation and test.

Other here: NAdam at .03, which falls in a line to a hundredth over 12 epochs, orthogonal recurrent weights, and the gradient's norm clipped
to 1, which seldom happens; there is a symbol for unknown characters, and 50 of the characters between two parts are predicted from the
wrong neighbour. The rate was chosen on one seed: 3 epochs end at 1.646 with .01, at 1.502 with .02, at 1.458 with .04; RMSProp at .005
ends at 1.658, and 18 epochs at .01 at 1.38 to 1.40.

char_rnn_race.py trains the same network with torch.nn beside it, for time.
"""

import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from _table import Outcome, Row, Table, count, main

import throughtime as tt
from throughtime.cli import main as throughtime
from throughtime.data import fetch

STREAMS, WINDOW, LEARNED, HELD_OUT = 50, 50, 423, 23
NETWORK = f"--cell lstm --layers 2 --hidden 128 --embedding 0 --batch-size {STREAMS} --bptt {WINDOW}"
RECIPE = f"{NETWORK} --init orthogonal --forget-bias 1 --optimizer nadam --lr 0.03 --schedule linear --warmup 50 --epochs 12"


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
    recipe = RECIPE.replace("--epochs 12", "--steps 1") + " --hidden 2 --layers 1" if small else RECIPE
    return [Row("LSTM 2 × 128", "1.3872", recipe, lambda seed: train(recipe, seed))]


TABLE = Table("nats a character", ".3f", rows)

if __name__ == "__main__":
    main(TABLE, __doc__)
