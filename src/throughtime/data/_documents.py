"""Documents of a text that are learned one by one: where each begins among the ids, and their parts as sequences.

Nothing is predicted across a border, so that the first symbol of a document has no loss.
"""

from pathlib import Path
from typing import final

import numpy as np
import torch

from .._check import InputError
from ._kept import kept_array
from ._sequences import AbstractSequences, Steps
from ._stream import Tokens


@final
class Documents(AbstractSequences):
    """Documents as sequences; a long one is cut into equal parts, each of which begins anew but has a target at every step.

    Args:
        tokens: the ids of all documents, end to end.
        borders: (D + 1,) where each of D documents begins, and where the last one ends.
        longest: the steps of a part, at most; None: a document is one part.

    >>> ids = np.array([3, 1, 4, 1, 5, 9, 2, 6])
    >>> documents = Documents(ids, np.array([0, 3, 4, 8]))  # "3 1 4", "1", "5 9 2 6"
    >>> documents.lengths.tolist(), documents.read(1, 0, 3).targets.tolist()
    ([2, 3], [9, 2, 6])
    """

    def __init__(self, tokens: Tokens | np.ndarray, borders: np.ndarray, longest: int | None = None) -> None:
        self.tokens = tokens
        steps = np.maximum(np.diff(borders) - 1, 0)
        parts = (steps > 0).astype(np.int64) if longest is None else -(-steps // longest)
        document = np.repeat(np.arange(len(steps)), parts)
        part = np.arange(len(document)) - (np.cumsum(parts) - parts)[document]
        size = -(-steps[document] // np.maximum(parts, 1)[document])
        self._starts = borders[document] + part * size
        self.lengths = np.minimum(size, steps[document] - part * size)

    def read(self, i: int, start: int, stop: int) -> Steps:
        a, b = int(self._starts[i]) + start, int(self._starts[i]) + stop + 1
        ids = (self.tokens.read(a, b) if isinstance(self.tokens, Tokens) else self.tokens[a:b]).astype(np.int64)
        return Steps(ids[:-1], ids[1:], np.ones(stop - start, bool))


def borders_file(tokens: Path) -> Path:
    """Where the borders of some ids are."""
    return tokens.with_suffix(".documents.npy")


def open_borders(tokens: Tokens, documents: int) -> np.ndarray:
    """(D + 1,) the borders, memory-mapped.

    Raises:
        InputError: they are missing or others than those of the ids.
    """
    path = borders_file(tokens.path)
    borders = kept_array(path, (documents + 1,), np.int64)
    if borders[0] != 0 or borders[-1] != len(tokens) or (np.diff(borders) <= 0).any():
        raise InputError(
            f"{path} is not what throughtime wrote; expected where {documents:,} documents begin. Train again with `overwrite`."
        )
    return borders


def first_symbol(tokens: Tokens, borders: np.ndarray, generator: torch.Generator) -> int:
    """The first symbol of a document that is drawn, each as likely as the others."""
    at = int(borders[int(torch.randint(len(borders) - 1, (), generator=generator))])
    return int(tokens.read(at, at + 1)[0])
