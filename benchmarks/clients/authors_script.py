"""A program that is no package, by its authors' own command, in the folder where its sources lie; one JSON line.

Nothing is fetched and no source is changed: before the script runs, ``torch.nn.LSTM`` and ``torch.nn.GRU`` become this package's. Its loss is
what ``backward`` is called on. PROGRAMS says where each program comes from, which files are expected, and what of its command is other than
the authors'.

    python benchmarks/clients/authors_script.py throughtime --program rnnoise --sources ~/rnnoise
"""

import argparse
import json
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

VARIANTS = ("torch", "throughtime", "nudged")  # no module is in reach of an integration


class Program(NamedTuple):
    """Where a program comes from, and its command."""

    origin: str
    script: str
    command: Callable[[Path, Path], list[str]]  # from the sources and an empty folder


def word_language_model(sources: Path, folder: Path) -> list[str]:
    """``python main.py``, on the first 1,000 lines of its validation text, for one epoch of its 40: a run of seconds."""
    lines = (sources / "word_language_model/data/wikitext-2/valid.txt").read_text("utf-8").splitlines(keepends=True)
    for name, part in {"train": lines[:1000], "valid": lines[1000:1100], "test": lines[1100:1200]}.items():
        (folder / f"{name}.txt").write_text("".join(part), "utf-8")
    return ["--data", str(folder), "--save", str(folder / "model.pt"), "--epochs", "1"]


def rnnoise(sources: Path, folder: Path) -> list[str]:
    """``train_rnnoise.py features.f32 output``, on random features of the right form, 8 sequences of 2000 for 128."""
    draw = np.random.default_rng(1)
    features = draw.normal(size=(24 * 2000, 98)).astype(np.float32)
    features[:, 65:] = draw.uniform(size=(len(features), 33))  # gains and voice activity lie in [0, 1]
    features.tofile(folder / "features.f32")
    return [str(folder / "features.f32"), str(folder), "--batch-size", "8", "--epochs", "1"]


PROGRAMS = {
    "word_language_model": Program("github.com/pytorch/examples at 77f55b9", "word_language_model/main.py", word_language_model),
    "rnnoise": Program("github.com/xiph/rnnoise at 70f1d25", "torch/rnnoise/train_rnnoise.py", rnnoise),
}


def become(variant: str) -> None:
    """Change torch.nn before the program sees it."""
    if variant == "throughtime":
        import throughtime as tt

        nn.LSTM, nn.GRU = tt.LSTM, tt.GRU
    elif variant == "nudged":
        reset = nn.RNNBase.reset_parameters

        def nudge(layer: nn.RNNBase) -> None:
            reset(layer)
            with torch.no_grad():
                for p in layer.parameters():
                    p.mul_(1 + torch.finfo(p.dtype).eps)

        nn.RNNBase.reset_parameters = nudge


def recorded_losses() -> list[float]:
    """The numbers on which ``backward`` is called from now on."""
    losses, backward = [], torch.Tensor.backward

    def record(loss, *args, **kwargs):
        losses.append(float(loss.detach()))
        return backward(loss, *args, **kwargs)

    torch.Tensor.backward = record
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--program", choices=PROGRAMS, required=True)
    parser.add_argument("--sources", type=Path, required=True, help="the folder with the program's repository")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    program = PROGRAMS[chosen.program]
    script = (chosen.sources / program.script).resolve()
    if not script.exists():
        sys.exit(f"{script} is not there; expected the files of {program.origin} in --sources.")
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(1)
    become(chosen.variant)
    losses = recorded_losses()
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = [str(script), *program.command(chosen.sources, Path(folder))]
        sys.path.insert(0, str(script.parent))
        os.chdir(folder)
        start, busy = time.perf_counter(), time.process_time()
        runpy.run_path(str(script), run_name="__main__")
        took = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - busy}
        os.chdir("/")
    print(json.dumps({"losses": losses, **took}))


if __name__ == "__main__":
    main()
