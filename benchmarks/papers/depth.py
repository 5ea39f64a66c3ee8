"""What does backpropagation through time buy a language model of words? Perplexity by the depth of the gradient: 1, 3, 5 and 10 steps.

    python benchmarks/papers/depth.py --json benchmarks/results/papers-depth.json --picture docs/figures/depth.png

Mikolov et al. (2011, *Extensions of recurrent neural network language model*) show on the Penn treebank that a simple network of sigmoid
units gains from every step up to about five; their figures are of another text, so no number of theirs stands here. Depth 1 is ordinary
backpropagation: the state before is an input like any other. By ``sliding:lags=K`` every loss sees exactly K steps, at every word.

Tiny Shakespeare as words, the 2,000 commonest, all others one unknown word; the last tenth of the text is the test, the tenth before it
validation. Other than RNNLM: 16 streams side by side with an update every 10 words in place of one word at a time, Adam with a falling
rate, biases, and a plain softmax in place of one by classes.
"""

import shlex
import statistics
import tempfile
from collections.abc import Sequence
from typing import Any

from _table import Outcome, Row, Table, count, main
from matplotlib.figure import Figure

import throughtime as tt
from throughtime.cli import main as throughtime
from throughtime.data import fetch

DEPTHS = (1, 3, 5, 10)
RECIPE = (
    "--level word --vocab-size 2000 --split 0.8,0.1,0.1 --cell rnn --activation sigmoid --hidden 100 --batch-size 16 --bptt 10 "
    "--lr 0.003 --schedule linear --epochs 4"
)


def train(recipe: str, seed: int) -> Outcome:
    with tempfile.TemporaryDirectory() as aside:
        run = f"{aside}/run"
        text = str(fetch("tiny-shakespeare"))
        assert throughtime(["train", "text", text, *shlex.split(recipe), "--threads", "1", "--seed", str(seed), "--out", run]) == 0
        trained = tt.load(run)
        about = {"updates": max(row["step"] for row in trained.metrics)}
        return Outcome(trained.evaluate().perplexity, count(trained.model), about)


def rows(small: bool) -> Sequence[Row]:
    smaller = RECIPE.replace("--epochs 4", "--steps 1") + " --hidden 2 --vocab-size 5"
    recipes = {depth: f"{smaller if small else RECIPE} --gradient sliding:lags={depth}" for depth in DEPTHS}
    return [
        Row("1 step" if depth == 1 else f"{depth} steps", "–", recipe, lambda seed, recipe=recipe: train(recipe, seed))
        for depth, recipe in recipes.items()
    ]


def picture(found: Sequence[dict[str, Any]]) -> Figure:
    """Perplexity by depth: each seed, and the mean."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes: Any = figure.subplots()
    depths = [int(row["name"].split()[0]) for row in found]
    values = [[run["value"] for run in row["runs"]] for row in found]
    for depth, each in zip(depths, values, strict=True):
        axes.plot([depth] * len(each), each, "o", color="0.7")
    axes.plot(depths, [statistics.fmean(each) for each in values], "o-", color="C0")
    axes.set(xlabel="steps of backpropagation through time", ylabel="perplexity on the test", xticks=depths)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


TABLE = Table("perplexity", ".1f", rows, picture)

if __name__ == "__main__":
    main(TABLE, __doc__)
