"""Training end to end: throughtime against the same model and loop in careful plain PyTorch.

Both start from the same weights and read the same windows of the same text, step by step in turns; one row a cell: tokens per
second of each (median over rounds, with the range), their ratio, and the validation loss that each has reached.

    python benchmarks/training.py TEXT [--cells gru,lstm,rnn] [--hidden 256] [--steps 200] [--threads 1,2] [--json FILE]
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from throughtime.bench._training import CELLS, pair
from throughtime.data import Corpus, TextSource, TokenStream
from throughtime.models import LanguageModel
from throughtime.training import evaluate

ROUND = 10  # steps of one before the other's turn


def compare(corpus: Corpus, name: str, hidden: int | None, window: int, batch_size: int, steps: int) -> dict:
    cell, _, usual = CELLS[name]
    H, V = hidden or usual, corpus.vocabulary.size
    torch.manual_seed(0)
    trainers = dict(zip(("throughtime", "torch"), pair(name, V, H, window).values(), strict=True))
    stream = TokenStream(corpus.sections["train"].tokens, batch_size=batch_size, window=window)
    speeds: dict[str, list[float]] = {name: [] for name in trainers}
    for start in range(0, steps, ROUND):
        for who, trainer in trainers.items():
            batches = [stream[i % len(stream)] for i in range(start, start + ROUND)]
            tokens, began = sum(b.T * b.B for b in batches), time.perf_counter()
            for batch in batches:
                trainer.step(batch)
            speeds[who].append(tokens / (time.perf_counter() - began))
    translated = LanguageModel(V, cell=cell, hidden_size=H)
    for mine, theirs in zip(translated.parameters(), trainers["torch"].model.parameters(), strict=True):
        mine.data.copy_(theirs.data)
    valid = corpus.sections["valid"]
    ratios = [a / b for a, b in zip(speeds["throughtime"], speeds["torch"], strict=True)]
    return {
        "cell": name,
        "hidden": H,
        "threads": torch.get_num_threads(),
        "tokens_per_second": {who: statistics.median(s) for who, s in speeds.items()},
        "range": {who: (min(s), max(s)) for who, s in speeds.items()},
        "ratio": statistics.median(ratios),
        "valid_nats": {"throughtime": evaluate(trainers["throughtime"].model, valid).nats, "torch": evaluate(translated, valid).nats},
    }


def line(row: dict) -> str:
    speeds = (
        f"{row['tokens_per_second'][w]:9,.0f} ({row['range'][w][0]:,.0f}–{row['range'][w][1]:,.0f})" for w in ("throughtime", "torch")
    )
    ours, torch_s = speeds
    losses = row["valid_nats"]
    name = f"{row['cell']:5} {row['hidden']:<4} {row['threads']:<9}"
    return f"{name} {ours:26} {torch_s:26} {row['ratio']:5.2f}   {losses['throughtime']:.4f}  {losses['torch']:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--cells", default="rnn,gru,lstm")
    parser.add_argument("--hidden", type=int)
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as aside:
        corpus = Corpus.build(TextSource((chosen.text,)), Path(aside))
        print("cell  H    threads   throughtime tok/s          torch tok/s                ratio   validation nats (ours, torch)")
        for threads in map(int, chosen.threads.split(",")):
            torch.set_num_threads(threads)
            for name in chosen.cells.split(","):
                row = compare(corpus, name, chosen.hidden, chosen.window, chosen.batch_size, chosen.steps)
                rows.append(row)
                print(line(row))
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
