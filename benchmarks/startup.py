"""How long until something happens: the command's help, the import, and the first step of a run.

    python benchmarks/startup.py
    python benchmarks/startup.py --json results.json

Each is a process of its own, started anew in every round, the processes taking turns. Files are in the system's cache after the first
round, which is not counted. "beyond torch" is the import of the package and the use of a name in it, less `import torch`, round by round.
The first step is the time from the start of `throughtime train text` on 240 KB of text to the row in which it reports its first step.
"""

import argparse
import json
import platform
import statistics
from collections.abc import Callable
from pathlib import Path

from throughtime.bench._startup import command, first_step, python


def contestants() -> dict[str, Callable[[], float]]:
    return {
        "python": python("pass"),
        "--version": command("--version"),
        "--help": command("--help"),
        "train text --help": command("train", "text", "--help"),
        "import throughtime": python("import throughtime"),
        "import torch": python("import torch"),
        "import torch; throughtime.GRU": python("import torch, throughtime; throughtime.GRU"),
        "first step of a run": first_step,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    calls = contestants()
    for run in calls.values():
        run()
    found = [{name: run() for name, run in calls.items()} for _ in range(args.rounds)]
    for one in found:
        one["beyond torch"] = one["import torch; throughtime.GRU"] - one["import torch"]
    rows = {}
    for name in found[0]:
        low, median, high = statistics.quantiles([one[name] for one in found], n=4)
        rows[name] = {"median": round(median, 4), "spread": round((high - low) / 2, 4)}
        print(f"{name:32} {median:6.3f} ±{(high - low) / 2:.3f} s")
    if args.json:
        args.json.write_text(json.dumps({"machine": platform.processor() or platform.machine(), "seconds": rows}, indent=1))


if __name__ == "__main__":
    main()
