"""``throughtime sample``: let a trained model write."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

import torch
import tyro

from .. import _check
from .._check import InputError
from ..training import RunFolder, device
from ._flags import parse


@dataclass(frozen=True)
class Sample:
    """Let a trained model write on."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run folder."""
    prompt: Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="(unless given: a line end)")] = None
    """The text to go on from."""
    length: int = 500
    """How many symbols to write."""
    temperature: float = 1.0
    """Below 1: likelier symbols; above: more surprising ones; 0: always the likeliest."""
    top_k: Annotated[int | None, tyro.conf.arg(metavar="K", help_behavior_hint="(unless given: any)")] = None
    """Only the likeliest this many symbols may be drawn."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(unless given: another one each time)")] = None
    """The same seed writes the same text."""
    device: str = "cpu"
    """Where to compute."""


def sample(arguments: Sequence[str], prog: str) -> int:
    """The verb."""
    chosen = parse(Sample, arguments, prog, "Let a trained model write on from a prompt.")
    if 0 < chosen.temperature < 1e-3:
        raise InputError(f"--temperature is {chosen.temperature!r}; expected 0, or 0.001 or more. Use 0 for the likeliest symbol.")
    folder = RunFolder.open(chosen.run)
    vocabulary = folder.vocabulary()
    model = folder.load_model(vocabulary, device(chosen.device))
    generator = torch.Generator()
    generator.seed() if chosen.seed is None else generator.manual_seed(_check.seed(chosen.seed))
    prompt = vocabulary.start() if chosen.prompt is None else vocabulary.encode_prompt(chosen.prompt)
    ids = model.sample(prompt, chosen.length, temperature=chosen.temperature, top_k=chosen.top_k, generator=generator)
    for piece in vocabulary.pieces(chain(prompt, ids)):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return 0
