"""How much memory one forward and backward pass of a layer takes beyond its input, its weights and the gradient given to it.

Each contestant runs once in a process of its own; the row is the growth of its peak resident set.

    python benchmarks/layer_memory.py [--sizes 10000,16,64,128] [--cells simple,gru,lstm]
"""

import argparse
import resource
import subprocess
import sys

CONTESTANTS = ("ours, gates kept", "ours, lean", "torch.nn")


def grow(cell: str, who: str, sizes: tuple[int, int, int, int]) -> float:
    """Megabytes; run in a fresh process."""
    import torch

    from throughtime.cells import GRU, LSTM, Elman
    from throughtime.kernels import Parameters, recurrence

    torch.set_num_threads(1)
    T, B, I, H = sizes
    ours = {"simple": Elman(), "gru": GRU(), "lstm": LSTM()}[cell]
    layer = {"simple": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell](I, H)
    parameters = Parameters(*(p.view(ours.gates, H, *p.shape[1:]) for p in layer.parameters()))

    def both(xs, dhs) -> None:
        if who == "torch.nn":
            hs = layer(xs)[0]
        else:
            state = tuple(torch.zeros(xs.shape[1], H) for _ in range(ours.states))
            hs = recurrence(ours, xs, state, parameters, memory="lean" if "lean" in who else "fast")[0]
        hs.backward(dhs)

    both(torch.randn(20, B, I, requires_grad=True), torch.randn(20, B, H))  # what is made once
    xs, dhs = torch.randn(T, B, I, requires_grad=True), torch.randn(T, B, H)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    both(xs, dhs)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,16,64,128", help="T,B,I,H")
    parser.add_argument("--cells", default="simple,gru,lstm")
    parser.add_argument("--one", nargs=2, metavar=("CELL", "WHO"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    T, B, I, H = map(int, chosen.sizes.split(","))
    if chosen.one:
        print(f"{grow(*chosen.one, (T, B, I, H)):.0f}")
        return
    print(f"T,B,I,H = {chosen.sizes}; growth of the peak resident set, MB")
    for cell in chosen.cells.split(","):
        found = {
            who: subprocess.run(
                [sys.executable, __file__, "--sizes", chosen.sizes, "--one", cell, who], capture_output=True, text=True, check=True
            ).stdout.strip()
            for who in CONTESTANTS
        }
        print(f"{cell:7}" + "   ".join(f"{who} {mb}" for who, mb in found.items()))


if __name__ == "__main__":
    main()
