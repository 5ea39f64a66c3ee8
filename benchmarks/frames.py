"""How well are the notes of chorales predicted? JSB chorales (Boulanger-Lewandowski et al. 2012), in the file's own split.

    python benchmarks/frames.py JSB_Chorales.mat

229 pieces for training, 76 for validation, 77 for test; 88 notes a frame, each 0 or 1. The negative log-likelihood of a frame in nats, over
all frames of the test pieces but the first of each, of the weights that are best on validation. Bai, Kolter & Koltun (2018, table 1) give
8.91 for a simple network, 8.43 for a GRU, 8.45 for an LSTM of about the same size, and 8.10 for their convolutions.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import throughtime as tt
from throughtime.cli import main

BAI = {"rnn": 8.91, "gru": 8.43, "lstm": 8.45}
HOW = ["--hidden", "200", "--dropout", "0.5", "--batch-size", "8", "--lr", "0.002", "--epochs", "300", "--patience", "15", "--threads", "1"]


def measure(file: Path, cell: str, seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as aside:
        run, began = f"{aside}/run", time.monotonic()
        assert main(["train", "frames", str(file), "--cell", cell, *HOW, "--seed", str(seed), "--out", run]) == 0
        trained = tt.load(run)
        steps = max(row["step"] for row in trained.metrics)
        about = {"valid_nll": trained.evaluate("valid").nll, "steps": steps, "minutes": round((time.monotonic() - began) / 60, 2)}
        return {"test_nll": trained.evaluate("test").nll, **about}


def print_table(found: dict[str, list[dict[str, float]]]) -> None:
    print("\n| test, nats a frame | throughtime | Bai et al. 2018 |\n| --- | --- | --- |")
    for cell, scores in found.items():
        mine = sorted(score["test_nll"] for score in scores)
        spread = f" ({mine[0]:.3f} – {mine[-1]:.3f})" if len(mine) > 1 else ""
        print(f"| {cell} | {mine[len(mine) // 2]:.3f}{spread} | {BAI[cell]} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--cells", nargs="+", default=list(BAI), choices=list(BAI))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found = {cell: [measure(chosen.file, cell, seed) for seed in range(chosen.seeds)] for cell in chosen.cells}
    print_table(found)
    if chosen.json:
        chosen.json.write_text(json.dumps({"options": HOW, "found": found}, indent=1))
