"""Where a training step's time goes: the share of each station, with the plain loop and with the packed kernels.

Each station is run by itself on real shapes, forward and backward, in turns over several rounds; the row "step" is the whole of it as
the trainer runs it.

    python benchmarks/profile_step.py [--vocabulary 66] [--cells rnn,gru,lstm] [--hidden 256] [--window 100] [--batch-size 32]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import throughtime as tt
from throughtime.cells import GRU, LSTM, Elman
from throughtime.gradients import TruncatedBPTT
from throughtime.kernels import set_kernels
from throughtime.training import ClipNorm, step

CELLS = {"rnn": Elman(), "gru": GRU(), "lstm": LSTM()}


def stations(cell, V: int, H: int, T: int, B: int) -> dict[str, Callable[[], object]]:
    model = tt.LanguageModel(V, cell=cell, hidden_size=H)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)
    ids = torch.randint(V, (T + 1, B))
    batch = tt.Batch(ids[:-1], ids[1:])
    xs = torch.randn(T, B, H, requires_grad=True)
    hs = torch.randn(T, B, H, requires_grad=True)
    dxs = torch.randn(T, B, H)
    carry = TruncatedBPTT(T).accumulate(model, batch).carry
    whole = lambda: step(model, batch, carry, gradient=TruncatedBPTT(T), clips=[ClipNorm(1.0)], optimizer=optimizer)
    return {
        "embed": lambda: model.embed(batch).backward(dxs),
        "recurrence": lambda: model.recurrence(xs, carry.state)[0].backward(dxs),
        "head and loss": lambda: model.losses(hs, batch).sum().backward(),
        "clip": lambda: ClipNorm(1.0)(list(model.parameters()), tt.training.global_norm(list(model.parameters()))),
        "optimiser": optimizer.step,
        "step": whole,
    }


def measure(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 2):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if i >= 2:
                times[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(t) for name, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=66)
    parser.add_argument("--cells", default="rnn,gru,lstm")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print(f"V {chosen.vocabulary}  H {chosen.hidden}  T {chosen.window}  B {chosen.batch_size}  threads {chosen.threads}; ms a step")
    for name in chosen.cells.split(","):
        for kernels in ("plain", "fast"):
            set_kernels(kernels)
            ms = measure(stations(CELLS[name], chosen.vocabulary, chosen.hidden, chosen.window, chosen.batch_size), chosen.rounds)
            total = sum(v for k, v in ms.items() if k != "step")
            shares = "   ".join(f"{k} {v:.2f} ({v / total:.0%})" for k, v in ms.items() if k != "step")
            print(f"{name:5} {kernels:6} step {ms['step']:.2f}   {shares}")


if __name__ == "__main__":
    main()
