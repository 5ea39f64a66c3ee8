"""How fast is one LSTM layer beside LIBXSMM's: forward, then backward with the gradients of the weights, of the same sizes.

LIBXSMM 1.16.3 is the last that has a recurrent layer. Build its library and its driver first:

    make BLAS=0 FC= STATIC=1 OMP=1 && make -C samples/deeplearning/lstmdriver BLAS=0 FC= STATIC=1 OMP=1
    python benchmarks/libxsmm.py .../lstmdriver/lstmdriver_nc_kcck_f32 [--threads 1,2] [--rounds 5] [--json FILE]

The driver is a program of C: its arrays are made before its clock starts, in blocks that suit it, and a pass is timed over several calls.
Ours is the extension called from Python, with new outputs at each call. They take turns, round by round; milliseconds, medians, with the
range. Both count 6·T·B·4·H·(I + H) operations.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
from pathlib import Path

import torch
from layers import Sizes, kernel, operations, seconds

BLOCKS = {  # of the batch, I and H: multiples of the vectors' length that divide the sizes
    (100, 32, 32, 64): (32, 32, 64),
    (100, 32, 128, 128): (32, 64, 64),
    (100, 32, 256, 256): (32, 64, 64),
    (100, 64, 512, 512): (32, 64, 64),
    (35, 20, 200, 200): (20, 40, 40),
}
FORWARD, BACKWARD = 0, 3  # the driver's numbers of the passes; 3 makes the gradients of weights and inputs in one
TURN = 0.25  # seconds


def theirs(driver: Path, sizes: Sizes, threads: int, calls: int, which: int) -> float:
    """Seconds of one pass."""
    T, B, I, H = sizes
    words = [driver, calls, which, B, I, H, T, *BLOCKS[sizes]]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "CHECK": "0"}
    printed = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True, env=environment).stdout
    found = re.search(r"^PERFDUMP,.*,([\d.]+),[\d.]+$", printed, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{driver} printed no time: {printed[-300:]}")
    return float(found[1])


def measure(driver: Path, sizes: Sizes, threads: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each, a number a round."""
    torch.set_num_threads(threads)
    call = kernel("lstm", sizes, threads)
    calls = max(2, int(TURN / min(seconds(call, 1) for _ in range(3))))
    found: dict[str, list[float]] = {"throughtime": [], "forward": [], "backward": []}
    for _ in range(rounds):
        found["throughtime"].append(seconds(call, calls))
        found["forward"].append(theirs(driver, sizes, threads, calls, FORWARD))
        found["backward"].append(theirs(driver, sizes, threads, calls, BACKWARD))
    found["libxsmm"] = [a + b for a, b in zip(found["forward"], found["backward"], strict=True)]
    return found


def line(sizes: Sizes, threads: int, found: dict[str, list[float]]) -> str:
    ms = {who: f"{1e3 * statistics.median(s):.2f} ({1e3 * min(s):.2f}–{1e3 * max(s):.2f})" for who, s in found.items()}
    ratio = statistics.median(b / a for a, b in zip(found["throughtime"], found["libxsmm"], strict=True))
    rate = operations("lstm", sizes) / statistics.median(found["throughtime"]) / 1e9
    return (
        f"{','.join(map(str, sizes)):15} {threads}  throughtime {ms['throughtime']}  libxsmm {ms['libxsmm']}, forward {ms['forward']}"
        f"  ×{ratio:.2f}  {rate:.0f} GF/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("driver", type=Path)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rows = []
    for threads in map(int, chosen.threads.split(",")):
        for sizes in BLOCKS:
            found = measure(chosen.driver, sizes, threads, chosen.rounds)
            print(line(sizes, threads, found), flush=True)
            rows.append({"sizes": sizes, "threads": threads, "seconds": found})
    if chosen.json:
        machine = platform.processor() or platform.machine()
        chosen.json.write_text(json.dumps({"machine": machine, "torch": torch.__version__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
