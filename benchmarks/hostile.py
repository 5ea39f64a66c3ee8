"""Files and words that mean harm, through every verb: each must end in a sentence and status 0 or 2, and within ten seconds.

A small run of every task is trained. Then one of its files, or of the data files, is spoilt (bytes changed, cut, repeated; numbers, names
and shapes of its JSON, safetensors header, CSV, Parquet or arrays replaced, with checksums that fit), or flags get words that mean nothing,
and a verb is called on it. Failures: a traceback, another status, more than ten seconds of the processor, a word about memory that ran out
(a size was believed before it was checked), a file outside of the folder, a crash. A failure can be repeated by its number alone.

Every example is a process, forked from this one after all imports; under root it gives up root's rights first.

    python benchmarks/hostile.py [--examples 10000] [--first 0] [--workers 1] [--only NUMBER] [--json FILE]
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from hostile_inputs import Home, Judgement, Trial, begin, example, judged

from throughtime.cli import main as throughtime

MEMORY_FILES = Path("/dev/shm")  # where writing costs nothing


def made(place: Path) -> Home:
    """The whole files and runs. Another process makes them, since what starts threads must not be called before a fork."""
    if (pid := os.fork()) == 0:
        code = 1
        try:
            home = Home(place)
            os.chdir(place)
            os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
            code = max(throughtime(words) for words in home.trainings())
            (place.parent / "modules").write_text("\n".join(sys.modules))
        finally:
            os._exit(code)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("the whole files could not be made")
    for name in (place.parent / "modules").read_text().split():
        with suppress(ImportError):
            importlib.import_module(name)
    home = Home.__new__(Home)
    home.place = place
    return home


def judgements(home: Home, numbers: Iterator[int], workers: int, place: Path) -> Iterator[Judgement]:
    """What came of each example, as they end."""
    running: dict[int, Trial] = {}
    for number in numbers:
        pid, trial = begin(number, place / str(number), lambda inside, n=number: example(home, n, inside))
        running[pid] = trial
        while len(running) >= workers:
            yield ended(running)
    while running:
        yield ended(running)


def ended(running: dict[int, Trial]) -> Judgement:
    pid, status = os.wait()
    return judged(running.pop(pid), os.waitstatus_to_exitcode(status))


def show(found: Judgement, length: int) -> None:
    print(f"{found.number}: {found.what}: {found.words}\n{found.said[-length:]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", type=int, help="one example, shown whole")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    numbers = range(chosen.first, chosen.first + chosen.examples) if chosen.only is None else [chosen.only]
    torch.set_num_threads(1)
    counts, bad, started = Counter(), [], time.monotonic()
    with tempfile.TemporaryDirectory(dir=MEMORY_FILES if MEMORY_FILES.is_dir() else None) as folder:
        Path(folder).chmod(0o755)
        home = made(Path(folder) / "home")
        for found in judgements(home, iter(numbers), chosen.workers, Path(folder)):
            counts[found.what.split(":")[0]] += 1
            if not found.good or chosen.only is not None:
                bad.append(found.number)
                show(found, 1500 if chosen.only is None else 10**6)
            if (done := counts.total()) % 250 == 0:
                print(f"{done} examples, {(time.monotonic() - started) / done:.3f} s each: {dict(counts)}", flush=True)
            if chosen.json:
                about = {"benchmark": "hostile", "first": chosen.first, "outcomes": counts, "failures": bad}
                chosen.json.write_text(json.dumps(about, indent=1))
    print(f"{counts.total()} examples: " + ", ".join(f"{n} {word}" for word, n in counts.most_common()))
    if bad and chosen.only is None:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
