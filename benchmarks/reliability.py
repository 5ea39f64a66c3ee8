"""What kills, spoilt files, lost ranks and hours cost a run: nothing, or this says what.

kills    Runs of every task are killed with SIGKILL at random moments and resumed, until they have finished. The weights, the whole state
         and every row of metrics.jsonl (times aside) must be those of a run that nobody disturbed, and after every kill the folder must
         open.
spoilt   The saved state of a run is spoilt at every kilobyte in turn. Each time it must be noticed.
ranks    Under torchrun with restarts, a random rank is killed at random moments; the run must end by itself with the same bytes and rows.
soak     Memory while a run trains, measures, samples and saves for half an hour: less than 1 MB more in an hour.

    python benchmarks/reliability.py kills [--kills 200] [--runs "text, gru, chunks" ...] [--json FILE]
    python benchmarks/reliability.py spoilt | ranks [--kills 20] | soak [--minutes 30]
"""

import argparse
import json
import math
import os
import platform
import random
import tempfile
from pathlib import Path

import torch
from endurance import RUNS, Data, kills, rank_kills, soak, spoilt
from endurance._kills import undisturbed


def write(found: dict[str, object], chosen: argparse.Namespace) -> None:
    """What has been found so far, if a file was named."""
    if chosen.json:
        about = {"benchmark": f"reliability {chosen.part}", "torch": torch.__version__, "machine": platform.machine(), "seed": chosen.seed}
        chosen.json.write_text(json.dumps({**about, "found": found}, indent=1))


def of_kills(data: Data, chosen: argparse.Namespace) -> dict[str, object]:
    rng, found, each = random.Random(chosen.seed), {}, math.ceil((chosen.kills or 200) / len(chosen.runs))
    for k, name in enumerate(chosen.runs):
        found[name] = kills(RUNS[name], data, data.place / f"whole{k}", each, rng)
        write(found, chosen)
        print(f"{name}: {found[name]}", flush=True)
    return found


def of_spoilt(data: Data, chosen: argparse.Namespace) -> dict[str, object]:
    found: dict[str, object] = {}
    for k, name in enumerate(chosen.runs):
        undisturbed(RUNS[name], data, data.place / f"whole{k}")
        found[name] = spoilt(data.place / f"whole{k}")
        print(f"{name}: {found[name]}", flush=True)
    return found


def of_ranks(data: Data, chosen: argparse.Namespace) -> dict[str, object]:
    return {"two ranks": rank_kills(data, chosen.kills or 20, random.Random(chosen.seed))}


def of_soak(data: Data, chosen: argparse.Namespace) -> dict[str, object]:
    return {"soak": soak(data, chosen.minutes)}


PARTS = {"kills": of_kills, "spoilt": of_spoilt, "ranks": of_ranks, "soak": of_soak}


def wrong(found: dict) -> bool:
    """Whether something is not as promised."""
    memory = found.get("slopes", {}).get("resident", {}).get("an_hour", 0.0)
    return bool(found.get("unreadable") or found.get("differing") or found.get("taken") or memory >= 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--kills", type=int, help="at least so many in all")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), metavar="RUN")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=lambda name: Path(name).resolve())
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        found = PARTS[chosen.part](Data(Path(place)), chosen)
    write(found, chosen)
    print(json.dumps({name: {k: v for k, v in part.items() if k != "samples"} for name, part in found.items()}, indent=1))
    if any(map(wrong, found.values())):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
