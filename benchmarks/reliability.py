"""What a kill and a spoilt file cost a run: killed at random moments and resumed, its end must have the bytes of a run never killed.

Each round trains from the shell, kills the process with SIGKILL after a random time, checks that the folder can be opened, and resumes,
until the run has finished. Then the weights, the whole state, and every row of metrics.jsonl (times aside) are compared with those of a
run that nobody disturbed. A second part spoils the saved state at every kilobyte in turn; the run must notice each time and go on from the
save before it.

    python benchmarks/reliability.py [--kills 200] [--json FILE]
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file

from throughtime import InputError
from throughtime.training import RunFolder, load
from throughtime.training._files import read_tensors

RUNS = {
    "gru, chunks": "--cell gru --hidden 48 --dropout 0.2 --initial random",
    "lstm, (k, 2k)": "--cell lstm --hidden 32 --layers 2 --gradient truncated:k1=8,k2=16",
    "rnn, sliding": "--cell rnn --hidden 24 --gradient sliding:lags=12",
    "gru, uoro": "--cell gru --hidden 16 --gradient uoro",
    "rnn, rtrl": "--cell rnn --hidden 8 --embedding 0 --gradient rtrl",
}
COMMON = "--bptt 16 --batch-size 8 --steps 400 --eval-every 50 --eval-tokens 4000 --save-every 0.05 --threads 1".split()
TIMED = ("seconds", "tokens_per_second")


def text(path: Path) -> Path:
    """Some thousand lines, the same each time."""
    words, chance = "the a big old red cat dog owl sat lay on under mat log box".split(), random.Random(0)
    path.write_text("".join(" ".join(chance.choices(words, k=7)) + ".\n" for _ in range(3000)))
    return path


def command(out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "throughtime", "train", "text", "--out", str(out), *more]


def undisturbed(book: Path, out: Path, flags: list[str]) -> float:
    """Train to the end; the seconds that it took."""
    started = time.monotonic()
    subprocess.run(command(out, str(book), *COMMON, *flags), check=True, capture_output=True)
    return time.monotonic() - started


def disturbed(book: Path, out: Path, flags: list[str], longest: float, chance: random.Random) -> tuple[int, int]:
    """Kill and resume until it has finished: kills, and folders that could not be opened after one."""
    kills = unreadable = 0
    words = command(out, str(book), *COMMON, *flags)
    while True:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            if process.wait(chance.uniform(0.3, longest)) != 0:
                raise SystemExit(f"{' '.join(words)} ended with {process.returncode}: {process.stderr.read().decode()}")
            return kills, unreadable
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        kills += 1
        if out.exists():
            unreadable += not can_be_opened(out)
            words = command(out, "--resume")


def can_be_opened(out: Path) -> bool:
    try:
        folder = RunFolder.open(out)
        load(out)
        for state in (folder.state, folder.previous_state):  # a kill between two moves leaves the second alone
            if state.exists():
                read_tensors(state)
        return folder.state.exists() or folder.previous_state.exists()
    except InputError as error:
        print(error, file=sys.stderr)
        return False


def rows(out: Path) -> list[dict]:
    return [{k: v for k, v in json.loads(line).items() if k not in TIMED} for line in (out / "metrics.jsonl").read_text().splitlines()]


def differing(one: Path, other: Path) -> list[str]:
    """What is not the same at the end."""
    found = [] if (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes() else ["model.safetensors"]
    a, b = load_file(one / "state.safetensors"), load_file(other / "state.safetensors")
    found += [name for name in sorted(a.keys() | b.keys()) if name not in a or name not in b or not torch.equal(a[name], b[name])]
    return found + ([] if rows(one) == rows(other) else ["metrics.jsonl"])


def spoilt(run: Path) -> tuple[int, int]:
    """A byte of the state is changed at every kilobyte: how often, and how often that was not noticed although the content differs."""
    path = run / "state.safetensors"
    whole = path.read_bytes()
    good, about = read_tensors(path)
    places, taken = range(0, len(whole), 1024), 0
    for at in places:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            read, told = read_tensors(path)
            taken += told != about or read.keys() != good.keys() or any(not torch.equal(read[k], good[k]) for k in good)
        except InputError:
            pass
    path.write_bytes(whole)
    return len(places), taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="at least so many in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    chance, found, console = random.Random(chosen.seed), {}, Console()
    with tempfile.TemporaryDirectory() as place:
        book = text(Path(place) / "book.txt")
        whole = {name: Path(place) / f"whole{i}" for i, name in enumerate(RUNS)}
        seconds = {
            name: undisturbed(book, whole[name], flags.split()) for name, flags in track(RUNS.items(), "undisturbed", console=console)
        }
        for name, flags in RUNS.items():
            kills = bad = finished = 0
            different: list[str] = []
            while kills * len(RUNS) < chosen.kills:
                out = Path(place) / "cut"
                shutil.rmtree(out, ignore_errors=True)
                more, unreadable = disturbed(book, out, flags.split(), max(4.0, seconds[name] * 0.8), chance)
                kills, bad, finished = kills + more, bad + unreadable, finished + 1
                different += differing(whole[name], out)
            places, taken = spoilt(whole[name])
            found[name] = {
                "kills": kills,
                "finished": finished,
                "unreadable": bad,
                "differing": different,
                "spoilt": places,
                "taken": taken,
            }
            console.print(
                f"{name}: {kills} kills, {finished} runs finished, {bad} folders unreadable, {len(different)} differing; "
                f"{places} spoilt states, {taken} taken for good"
            )
    if chosen.json:
        chosen.json.write_text(json.dumps({"benchmark": "reliability", "torch": torch.__version__, "runs": found}, indent=1))
    if any(r["unreadable"] or r["differing"] or r["taken"] for r in found.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
