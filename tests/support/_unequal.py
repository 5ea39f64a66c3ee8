"""Files whose sequences have unequal lengths, one for each task, so that ranks have unequal numbers of losses; the words that train on them."""

import json
import math

import numpy as np


def series(folder) -> list[str]:
    days = {"a": 61, "b": 41, "c": 90, "d": 33}
    lines = [f"{shop},{math.sin(d / 5) + d % 3}" for shop, n in days.items() for d in range(n)]
    (folder / "t.csv").write_text("\n".join(["shop,sold", *lines]) + "\n")
    return ["series", "t.csv", "--target", "sold", "--group", "shop", "--context", "3"]


def labels(folder) -> list[str]:
    """A label a sequence: in most windows no loss stands, in some only on one rank."""
    chance = np.random.default_rng(0)
    x = chance.standard_normal((24, 30, 2), dtype=np.float32)
    np.savez(folder / "t.npz", x=x, y=(x[:, :3].sum((1, 2)) > 0).astype(int), lengths=chance.integers(5, 31, 24))
    return ["labels", "t.npz"]


def frames(folder) -> list[str]:
    chance = np.random.default_rng(0)
    np.savez(
        folder / "t.npz", **{f"p{i}": (chance.random((n, 3)) < 0.3).astype(np.float32) for i, n in enumerate((40, 25, 31, 12, 38, 20))}
    )
    return ["frames", "t.npz"]


def documents(folder) -> list[str]:
    lines = (json.dumps({"text": f"the {n} cats and {n % 7} dogs sat on the {'mat' * (n % 3)}"}) for n in range(40))
    (folder / "t.jsonl").write_text("\n".join(lines))
    return ["text", "t.jsonl"]


UNEQUAL = [series, labels, frames, documents]
