"""A program that is no package, by its authors' own command, in the folder where its sources lie; one JSON line.

Nothing is fetched and no source is changed: before the script runs, ``torch.nn.LSTM`` and ``torch.nn.GRU`` become this package's; the
variant ``integration`` also replaces the loop over steps, in the script as it is read. The losses are what ``backward`` is called on. The
files of ``programs`` say where each program comes from, and what of its command is other than the authors'.

    python benchmarks/clients/authors_script.py throughtime --program rnnoise --sources ~/rnnoise
"""

import argparse
import json
import os
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from programs import PROGRAMS, Program
from torch import nn
from variants import VARIANTS, nudge_at_first_use


def become(variant: str) -> None:
    """Change torch.nn before the program sees it."""
    if variant in ("throughtime", "integration"):
        import throughtime as tt

        nn.LSTM, nn.GRU = tt.LSTM, tt.GRU
    elif variant == "nudged":
        nudge_at_first_use()


def recorded_losses() -> list[float]:
    """The numbers on which ``backward`` is called from now on."""
    losses: list[float] = []
    backward = torch.Tensor.backward

    def record(loss, *args, **kwargs):
        losses.append(float(loss.detach()))
        return backward(loss, *args, **kwargs)

    torch.Tensor.backward = record
    return losses


def prepared(program: Program, variant: str, sources: Path, folder: Path) -> Callable[[], Any]:
    """A function that runs the program as ``python SCRIPT WORDS`` does, in that folder."""
    try:
        script, *words = program.command(sources.resolve(), folder)
        source = Path(script).read_text("utf-8")
    except FileNotFoundError as absent:
        wanted = f"the files of github.com/{program.repository} at {program.commit}"
        sys.exit(f"{absent.filename} is not there; expected {wanted} in --sources.")
    if variant == "integration":
        if program.integration is None:
            sys.exit("this program has no integration")
        source = program.integration(source)
    sys.argv = [script, *words]
    sys.path.insert(0, str(Path(script).parent))
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__file__ = script
    os.chdir(folder)
    return lambda: exec(compile(source, script, "exec"), main.__dict__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--program", choices=PROGRAMS, required=True)
    parser.add_argument("--sources", type=Path, required=True, help="the folder with the program's repository")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as folder:
        run = prepared(PROGRAMS[chosen.program], chosen.variant, chosen.sources, Path(folder))
        become(chosen.variant)
        losses = recorded_losses()
        start, busy = time.perf_counter(), time.process_time()
        run()
        took = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - busy}
        os.chdir("/")
    print(json.dumps({"losses": losses, **took}))


if __name__ == "__main__":
    main()
