"""Strangers' packages, with and without ``throughtime.accelerate``: the same losses, and how long each took.

    python benchmarks/clients/run.py                 every client, three rounds, into a table
    python benchmarks/clients/run.py --clients darts_rnn --rounds 1

A virtual environment is made in a temporary folder, over the packages of the Python that runs this (so torch is not fetched again); pip
installs the clients into it, held to constraints.txt and to the torch that is there. torch.nn and throughtime take turns, each training in
a process of its own, on one thread.
"""

import argparse
import json
import site
import statistics
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import version
from pathlib import Path

from variants import VARIANTS

HERE = Path(__file__).resolve().parent
PACKAGES = {
    "recurrent_ppo": "sb3-contrib==2.9.2",
    "torchrl_ppo": "torchrl==0.14.1",
    "darts_rnn": "darts[torch]==0.48.1",
    "skorch_gru": "skorch==1.4.0",
    "crf_tagger": "pytorch-crf==0.7.2",
}
WITH_INTEGRATION = {"recurrent_ppo", "torchrl_ppo"}


def row(client: str, runs: dict[str, list[dict]], ours: str) -> str:
    """The table's line for one of our variants: median times, the ratios round by round, and how far the losses part."""
    before, after = (statistics.median(r["seconds"] for r in runs[v]) for v in ("torch", ours))
    parting = [f"{difference(runs['torch'][0], runs[v][0]):.1e}" for v in (ours, "nudged")]
    times = ("seconds", "processor_seconds", "update_seconds", "update_processor_seconds")
    ratios = [ratio(runs, ours, time) for time in times]
    cells = [PACKAGES[client], ours, f"{before:.1f} s", f"{after:.1f} s", *ratios, str(len(runs["torch"][0]["losses"])), *parting]
    return f"| {' | '.join(cells)} |"


def ratio(runs: dict[str, list[dict]], ours: str, time: str) -> str:
    """torch.nn's time over ours: the median of the rounds, the least and the most. A dash for a client that does not measure it."""
    if time not in runs["torch"][0]:
        return "–"
    rounds = sorted(a[time] / b[time] for a, b in zip(runs["torch"], runs[ours], strict=True))
    return f"{statistics.median(rounds):.2f} ({rounds[0]:.2f}–{rounds[-1]:.2f})"


def difference(one: dict, other: dict) -> float:
    """The largest relative difference of two trainings' losses."""
    return max(abs(a - b) / abs(a) for a, b in zip(one["losses"], other["losses"], strict=True))


def environment(folder: Path, clients: list[str]) -> Path:
    """The Python of a new environment that has the clients, over the packages that are here."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    find = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.check_output([python, "-c", find], text=True).strip())
    (packages / "below.pth").write_text("".join(f"import site; site.addsitedir({p!r})\n" for p in site.getsitepackages()))
    held = folder / "torch.txt"
    held.write_text(f"torch=={version('torch').split('+')[0]}\n")
    limits = ["--constraint", str(HERE.parents[1] / "constraints.txt"), "--constraint", str(held)]
    wanted = [PACKAGES[c] for c in clients]
    subprocess.run([sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install", *limits, *wanted], check=True)
    return python


def train(python: Path, client: str, variant: str) -> dict:
    """One training in a process of its own; what its last line says."""
    output = subprocess.check_output([python, HERE / f"{client}.py", variant], text=True, stderr=subprocess.DEVNULL, cwd=python.parent)
    return json.loads(output.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", nargs="+", choices=PACKAGES, default=list(PACKAGES))
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        python = environment(Path(folder) / "venv", chosen.clients)
        heads = "client | by | torch.nn | throughtime | ratio | of processor time | of updates | of their processor time | losses"
        print(f"| {heads} | they part by | torch.nn nudged parts by |\n|{'---|' * 11}")
        for client in chosen.clients:
            variants = [v for v in VARIANTS if v != "integration" or client in WITH_INTEGRATION]
            runs: dict[str, list[dict]] = {variant: [] for variant in variants}
            for number in range(chosen.rounds):
                for variant in variants if number == 0 else variants[:-1]:
                    runs[variant].append(train(python, client, variant))
            for ours in variants[1:-1]:
                print(row(client, runs, ours), flush=True)


if __name__ == "__main__":
    main()
