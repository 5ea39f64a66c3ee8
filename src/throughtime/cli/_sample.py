"""``throughtime sample``: let a trained model write."""

import sys
from itertools import chain

import torch

from .. import _check
from .._check import InputError
from ..training import RunFolder, device
from ._app import Call
from ._verbs import Sample


def sample(chosen: Sample, call: Call) -> int:
    """The verb."""
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
