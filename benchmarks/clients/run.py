"""Strangers' packages and programs, with and without this package: the same losses, and how long each took.

    python benchmarks/clients/run.py                                       every package, three rounds
    python benchmarks/clients/run.py --clients rnnoise --sources ~/code    a program, whose repository lies in ~/code/rnnoise
    python benchmarks/clients/run.py --clients darts_rnn --part times --json benchmarks/results/clients-zen4-2core.json

Every client gets a virtual environment, over the packages of the Python that runs this (so torch is not fetched again); pip installs what
the client asks for into it, held to constraints.txt and to the torch that is there. --environments keeps them. The trainings fetch
nothing. torch.nn and our variants take turns, each training in a process of its own, on one thread; torch.nn from weights that differ in
the last bit runs once, untimed.
"""

import argparse
import json
import os
import site
import subprocess
import sys
import tempfile
import venv
from collections import ChainMap
from pathlib import Path
from typing import Any

import torch
from contestants import CLIENTS, HERE, Client

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")}
TIMES = ("seconds", "processor_seconds", "update_seconds", "update_processor_seconds")


def environment(folder: Path, client: Client) -> Path:
    """The Python of an environment that has the client's packages, over those that are here."""
    python = folder / "bin" / "python"
    if python.exists():
        return python
    venv.create(folder, with_pip=False)
    find = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.check_output([python, "-c", find], text=True).strip())
    (packages / "below.pth").write_text("".join(f"import site; site.addsitedir({p!r})\n" for p in site.getsitepackages()))
    held = folder / "torch.txt"
    held.write_text(f"torch=={torch.__version__.split('+')[0]}\n")
    limits = ["--constraint", str(HERE.parents[1] / "constraints.txt"), "--constraint", str(held)]
    if client.packages:
        subprocess.run([sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install", *limits, *client.packages], check=True)
    return python


def train(python: Path, client: Client, variant: str, sources: Path) -> dict[str, Any]:
    """One training in a process of its own; what its last line says."""
    words = [*client.words, *(["--sources", str(sources / client.repository)] if client.repository else [])]
    command = [python, HERE / client.script, variant, *words]
    done = subprocess.run(command, text=True, capture_output=True, cwd=python.parent, env=os.environ | ONE_THREAD, check=False)
    if done.returncode:
        sys.exit(f"{client.title}, {variant}, ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def times(python: Path, client: Client, rounds: int, sources: Path) -> list[dict[str, Any]]:
    """torch.nn and our variants train in turns: the seconds of every round, for each of our variants."""
    runs: dict[str, list[dict[str, Any]]] = {variant: [] for variant in ("torch", *client.changed)}
    for _ in range(rounds):
        for variant, found in runs.items():
            found.append(train(python, client, variant, sources))
    measured = [time for time in TIMES if time in runs["torch"][0]]

    def seconds(variant: str, time: str) -> list[float]:
        return [round(run[time], 2) for run in runs[variant]]

    return [
        {
            "rounds": rounds,
            **parting(runs["torch"][0], runs[by][0]),
            **{time: {"torch": seconds("torch", time), "ours": seconds(by, time)} for time in measured},
        }
        for by in client.changed
    ]


def nudged(python: Path, client: Client, sources: Path) -> list[dict[str, Any]]:
    """The same without times, and how far torch.nn parts from itself, begun from weights that differ in the last bit."""
    theirs, control = (train(python, client, variant, sources) for variant in ("torch", "nudged"))
    alike = {"nudged_part_by": difference(theirs, control)}
    return [alike | parting(theirs, train(python, client, by, sources)) for by in client.changed]


def parting(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    return {"losses": len(theirs["losses"]), "losses_part_by": difference(theirs, ours)}


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest relative difference of two trainings' losses."""
    largest = max(abs(a - b) / abs(a) for a, b in zip(one["losses"], other["losses"], strict=True))
    return float(f"{largest:.1e}")


def keep(client: Client, found: list[dict[str, Any]], place: Path) -> None:
    """Put what was found of our variants into a file of results."""
    held = json.loads(place.read_text("utf-8")) if place.exists() else {"torch": torch.__version__, "threads": 1, "clients": []}
    if held["torch"] != torch.__version__:
        sys.exit(f"{place} is of torch {held['torch']}, but here is {torch.__version__}. Name another file.")
    rows = {(row["client"], row["by"]): row for row in held["clients"]}
    for by, row in zip(client.changed, found, strict=True):
        about = {"client": client.title, "by": by, "changed": client.changed[by], "differs": client.differs}
        rows[client.title, by] = rows.get((client.title, by), {}) | about | row
    lines = ",\n ".join(json.dumps(rows[key], ensure_ascii=False) for key in sorted(rows, key=lambda key: (key[0].lower(), key[1])))
    head = json.dumps({key: value for key, value in held.items() if key != "clients"})
    place.write_text(f'{head[:-1]}, "clients": [\n {lines}\n]}}\n', "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=[name for name, c in CLIENTS.items() if not c.repository])
    parser.add_argument("--part", choices=("both", "times", "nudged"), default="both")
    parser.add_argument("--rounds", type=int, default=3, help="of the times")
    parser.add_argument("--sources", type=Path, default=Path.cwd(), help="where the programs' repositories lie")
    parser.add_argument("--environments", type=Path, help="a folder that keeps the virtual environments; default: a temporary one")
    parser.add_argument("--json", type=Path, help="a file of results to put the rows into")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for name in chosen.clients:
            client, folder, sources = CLIENTS[name], (chosen.environments or Path(temporary)).absolute(), chosen.sources.absolute()
            python = environment(folder / name, client)
            parts = [nudged(python, client, sources)] if chosen.part != "times" else []
            parts += [times(python, client, chosen.rounds, sources)] if chosen.part != "nudged" else []
            found = [dict(ChainMap(*rows)) for rows in zip(*parts, strict=True)]
            for by, row in zip(client.changed, found, strict=True):
                print(client.title, by, json.dumps(row), flush=True)
            if chosen.json:
                keep(client, found, chosen.json)


if __name__ == "__main__":
    main()
