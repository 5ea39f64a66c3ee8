"""Do forecasts beat those that need no model? ETTh1, an electricity transformer hour by hour (Zhou et al. 2021), in its usual split.

    python benchmarks/forecasting.py etth1.csv

12, 4 and 4 months of 30 days for training, validation and test (8640, 2880 and 2880 hours); standardised on the training months. The oil
temperature OT from its own past, and all seven columns from theirs; one hour and one day ahead; a GRU, the weights that are best on
validation. Errors are mean squares over every origin of the test part and every step ahead, in standard deviations, as that data set's
papers give them.
"""

import argparse
import json
import tempfile
from pathlib import Path

import throughtime as tt
from throughtime.cli import main

SEVEN = "OT,HUFL,HULL,MUFL,MULL,LUFL,LULL"
CASES = {"OT, 1 hour": ("OT", 1), "OT, 24 hours": ("OT", 24), "all seven, 1 hour": (SEVEN, 1), "all seven, 24 hours": (SEVEN, 24)}
WAYS = ("mse_standardised", "last_value_mse_standardised", "seasonal_naive_mse_standardised", "mean_of_training_mse_standardised")


def measure(table: Path, target: str, horizon: int, seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as aside:
        run = f"{aside}/run"
        what = ["--time", "date", "--target", target, "--horizon", str(horizon), "--split", "8640,2880,2880"]
        how = ["--hidden", "64", "--epochs", "40", "--patience", "8", "--threads", "1", "--seed", str(seed), "--out", run]
        assert main(["train", "series", str(table), *what, *how]) == 0
        return tt.load(run).evaluate("test").as_dict()


def print_table(found: dict[str, list[dict[str, float]]]) -> None:
    print("\n| test, mean squared error | GRU | last value | seasonal naive (24) | mean of training |\n| --- | --- | --- | --- | --- |")
    for case, scores in found.items():
        mine = [score[WAYS[0]] for score in scores]
        spread = f" ({min(mine):.4f} – {max(mine):.4f})" if len(mine) > 1 else ""
        others = " | ".join(f"{scores[0][way]:.4f}" for way in WAYS[1:])
        print(f"| {case} | {sorted(mine)[len(mine) // 2]:.4f}{spread} | {others} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found = {case: [measure(chosen.table, *what, seed) for seed in range(chosen.seeds)] for case, what in CASES.items()}
    print_table(found)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1))
