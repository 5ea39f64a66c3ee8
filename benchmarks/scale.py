"""What a second process brings on this machine: steps of training in a second, and what one sum of the gradient costs.

The same training (a character model of random text, the whole batch of the same size) runs in one process with one thread, in one process
with a thread for each core, and in one process for each core, in turns; the median over rounds and reports is compared.
``--messages`` measures the sum alone, for gradients of several sizes.

    python benchmarks/scale.py [--hidden 256 --batch-size 32 --rounds 3 --json FILE]
    python benchmarks/scale.py --messages
"""

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
FORMS = {
    "one process, one thread": (1, 1),
    f"one process, {CORES} threads": (1, CORES),
    f"{CORES} processes, one thread each": (CORES, 1),
}


def speeds(out: Path, book: Path, processes: int, threads: int, chosen: argparse.Namespace) -> list[float]:
    """Steps of streams in a second, of every report but the first."""
    words = ["-m", "throughtime", "train", "text", book, "--out", out, "--cell", chosen.cell, "--hidden", chosen.hidden]
    words += ["--batch-size", chosen.batch_size, "--steps", chosen.steps, "--eval-every", 10**6, "--eval-tokens", 2]
    launch([*map(str, (*words, "--threads", threads))], processes, threads)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row["tokens_per_second"] for row in rows if row["kind"] == "train"][1:]


def launch(words: list[str], processes: int, threads: int, output: int | None = subprocess.DEVNULL) -> None:
    """What torchrun does, without its agent."""
    with socket.socket() as s:
        s.bind(("localhost", 0))
        around = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(s.getsockname()[1]), "WORLD_SIZE": str(processes)}
    around |= {"LOCAL_WORLD_SIZE": str(processes), "OMP_NUM_THREADS": str(threads)}
    ranks = [{"RANK": str(r), "LOCAL_RANK": str(r)} for r in range(processes)]
    running = [subprocess.Popen([sys.executable, *words], stdout=output, env=os.environ | around | rank) for rank in ranks]
    if any([process.wait() for process in running]):
        raise SystemExit(f"{' '.join(words)} failed")


def compare(chosen: argparse.Namespace) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in FORMS}
    with tempfile.TemporaryDirectory() as place:
        book, chance = Path(place) / "book.txt", random.Random(0)
        book.write_text("".join(chance.choices("abcdefghij klmnop\n", k=max(200_000, 30 * chosen.batch_size * 64))))
        for i in range(chosen.rounds):
            for name, (processes, threads) in FORMS.items():
                found[name] += speeds(Path(place) / f"{i}-{processes}-{threads}", book, processes, threads, chosen)
    return found


def messages() -> None:
    """In every process: the time of one sum, by the first."""
    import torch.distributed as dist

    dist.init_process_group("gloo")
    for n in (4, 10**4, 10**5, 10**6, 10**7):
        x, times = torch.ones(n), []
        for _ in range(30):
            dist.barrier()
            started = time.perf_counter()
            dist.all_reduce(x)
            times.append(time.perf_counter() - started)
        if dist.get_rank() == 0:
            median = statistics.median(times)
            print(f"{4 * n / 1e6:>10g} MB  {1e3 * median:8.3f} ms  {4 * n / median / 1e9:6.2f} GB/s", flush=True)
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", default="gru")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", action="store_true")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    if chosen.messages and "RANK" in os.environ:
        return messages()
    if chosen.messages:
        return launch([__file__, "--messages"], CORES, 1, None)
    found = compare(chosen)
    alone = statistics.median(found["one process, one thread"])
    for name, speed in found.items():
        low, median, high = statistics.quantiles(speed, n=4)
        print(f"{name:32} {median:10,.0f} tokens/s  (quartiles {low:,.0f} to {high:,.0f})  {median / alone:.2f}")
    if chosen.json:
        options = {name: getattr(chosen, name) for name in ("cell", "hidden", "batch_size", "steps", "rounds")}
        chosen.json.write_text(json.dumps({"benchmark": "scale", "torch": torch.__version__, **options, "tokens_per_second": found}))
    return None


if __name__ == "__main__":
    main()
