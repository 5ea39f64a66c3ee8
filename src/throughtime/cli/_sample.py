"""``throughtime sample``: let a trained model write."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from ..training import RunFolder, device
from ._flags import parse


@dataclass(frozen=True)
class Sample:
    """Let a trained model write on."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run folder."""
    prompt: str = "\n"
    """The text to go on from."""
    length: int = 500
    """How many symbols to write."""
    temperature: float = 1.0
    """Below 1: likelier symbols; above: more surprising ones; 0: always the likeliest."""
    top_k: int | None = None
    """Only the likeliest this many symbols may be drawn."""
    seed: int | None = None
    """The same seed writes the same text (unless given: another one each time)."""
    device: str = "cpu"
    """Where to compute."""


def sample(arguments: Sequence[str], prog: str) -> int:
    """The verb."""
    chosen = parse(Sample, arguments, prog, "Let a trained model write on from a prompt.")
    folder = RunFolder.open(chosen.run)
    vocabulary = folder.vocabulary()
    model = folder.load_model(vocabulary, device(chosen.device))
    generator = torch.Generator()
    generator.seed() if chosen.seed is None else generator.manual_seed(chosen.seed)
    ids = model.sample(
        vocabulary.encode_prompt(chosen.prompt),
        chosen.length,
        temperature=chosen.temperature,
        top_k=chosen.top_k,
        generator=generator,
    )
    sys.stdout.write(chosen.prompt)
    for piece in vocabulary.pieces(ids):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return 0
