"""One long sequence of tokens, read as B parallel streams in windows of T steps.

T time · B batch.
"""

import abc
import mmap
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import final

import numpy as np
import torch

from .. import _check
from .._check import InputError
from ._batch import Batch

_RELEASE_EVERY = 64 << 20  # bytes read between two releases of the mapped pages
_MAPS_AT_LEAST = 64 << 10  # bytes that a system maps around a single byte that is read


class AbstractStream(abc.ABC):
    """Batches in a fixed order: the same ones for the same numbers, so that training can be gone on with anywhere.

    Batch i + 1 continues the streams of batch i where it does not mark them ``fresh``.

    >>> class Ones(AbstractStream):
    ...     def __len__(self):
    ...         return 3
    ...     def __getitem__(self, i):
    ...         return Batch(torch.ones(5, 2, 1), torch.ones(5, 2, 1), fresh=torch.full((2,), i == 0))
    >>> Ones().at(3).fresh.tolist()  # the second pass begins
    [True, True]
    """

    @abc.abstractmethod
    def __len__(self) -> int:
        """Batches in one pass."""

    @abc.abstractmethod
    def __getitem__(self, i: int) -> Batch:
        """Batch i of the first pass."""

    def at(self, step: int) -> Batch:
        """The batch of a training step, counted over all passes. A stream that shuffles does it here."""
        return self[step % len(self)]

    def dealt(self, rank: int, ranks: int) -> "AbstractStream":
        """The same batches with every rank's own part of their B streams, B/ranks of them side by side.

        A stream that can read a part without the rest overrides this.
        """
        return _Dealt(self, rank, ranks)


@final
class _Dealt(AbstractStream):
    """A part of the streams of whole batches."""

    def __init__(self, stream: AbstractStream, rank: int, ranks: int) -> None:
        self._stream, self._rank, self._ranks = stream, rank, ranks

    def __len__(self) -> int:
        return len(self._stream)

    def __getitem__(self, i: int) -> Batch:
        return self._part(self._stream[i])

    def at(self, step: int) -> Batch:
        return self._part(self._stream.at(step))

    def _part(self, batch: Batch) -> Batch:
        each = batch.B // self._ranks
        return batch.streams(self._rank * each, (self._rank + 1) * each)


@final
class Tokens:
    """Token ids in a memory-mapped file, so that a corpus may be larger than memory.

    Args:
        path: a file of little-endian unsigned integers and nothing else.
        dtype: the type of the integers: uint8, uint16 or uint32.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "ids.bin")
    >>> _ = path.write_bytes(bytes(range(10)))
    >>> tokens = Tokens(path, np.dtype("<u1"))
    >>> len(tokens), tokens.read(3, 6).tolist()
    (10, [3, 4, 5])
    >>> folder.cleanup()
    """

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self.path, self.dtype = path, dtype
        self._size = path.stat().st_size // dtype.itemsize
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self._size else None
        self._read = 0

    def __len__(self) -> int:
        return self._size

    def read(self, start: int, stop: int) -> np.ndarray:
        """A copy of tokens start..stop−1."""
        size = self.dtype.itemsize
        raw = b"" if self._map is None else self._map[start * size : stop * size]
        self._read += max(len(raw), _MAPS_AT_LEAST)
        if self._read > _RELEASE_EVERY and self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)  # otherwise pages read once count as this process's memory until memory is short
            self._read = 0
        return np.frombuffer(raw, self.dtype)


@final
class TokenStream(AbstractStream):
    """Windows of a token sequence. Batch i holds steps i·T … of B contiguous streams; batch i + 1 continues where it ended.

    Each stream is a B-th of the tokens, so that every token is predicted once, except the first and up to B − 1 at the end. The first
    window marks every stream ``fresh``; the last may be shorter.

    Args:
        tokens: ids, as a tensor, an array, a list or ``Tokens``.
        batch_size: B.
        window: T.
        whole: True predicts the last tokens too. The streams' length is rounded up, and padding at the end of the last ones is masked.

    Raises:
        InputError: fewer than B + 1 tokens, or tokens that are not one row of integers.

    >>> stream = TokenStream(torch.arange(9), batch_size=2, window=3)
    >>> [batch.inputs.T.tolist() for batch in stream]
    [[[0, 1, 2], [4, 5, 6]], [[3], [7]]]
    """

    def __init__(
        self, tokens: torch.Tensor | np.ndarray | Sequence[int] | Tokens, *, batch_size: int, window: int, whole: bool = False
    ) -> None:
        self.tokens = tokens if isinstance(tokens, Tokens) else _ids(tokens)
        self.batch_size = _check.positive("batch size", batch_size)
        self.window = _check.positive("window", window)
        self.whole = whole
        self.streams = range(batch_size)
        self.steps = -(-(len(tokens) - 1) // batch_size) if whole else (len(tokens) - 1) // batch_size  # of each stream
        if self.steps < 1:
            raise InputError(
                f"there are {len(tokens):,} tokens for {batch_size:,} streams; expected at least {batch_size + 1:,}. "
                "Lower the batch size or give a longer text."
            )

    def __len__(self) -> int:
        """Windows in one pass."""
        return -(-self.steps // self.window)

    def __getitem__(self, i: int) -> Batch:
        """Window i of a pass. It is always the same, so that a run can be resumed at any window."""
        if not 0 <= i < len(self):
            raise IndexError(i)
        start = i * self.window
        stop = min(start + self.window, self.steps)
        rows = np.zeros((len(self.streams), stop - start + 1), np.int64)
        real = np.zeros((len(self.streams), stop - start), bool)
        for row, b in enumerate(self.streams):
            ids = self._read(b * self.steps + start, b * self.steps + stop + 1)
            rows[row, : len(ids)] = ids
            real[row, : max(0, len(ids) - 1)] = True
        ids = torch.from_numpy(rows).T.contiguous()  # (T + 1, B)
        mask = torch.from_numpy(real).T.contiguous() if self.whole else None
        return Batch(ids[:-1], ids[1:], mask=mask, fresh=torch.full((len(self.streams),), i == 0))

    def __iter__(self) -> Iterator[Batch]:
        return (self[i] for i in range(len(self)))

    def dealt(self, rank: int, ranks: int) -> "TokenStream":
        """Rank's own streams, of which alone the tokens are read.

        >>> stream = TokenStream(torch.arange(9), batch_size=2, window=3)
        >>> stream.dealt(1, 2)[0].inputs.T.tolist()
        [[4, 5, 6]]
        """
        mine, each = copy(self), self.batch_size // ranks
        mine.streams = range(rank * each, (rank + 1) * each)
        return mine

    def _read(self, start: int, stop: int) -> np.ndarray:
        return self.tokens.read(start, stop) if isinstance(self.tokens, Tokens) else self.tokens[start:stop]


def _ids(tokens: torch.Tensor | np.ndarray | Sequence[int]) -> np.ndarray:
    """One row of integers, as an array."""
    if isinstance(tokens, str):
        raise InputError("tokens is a str; expected ids. Encode it with a vocabulary, such as data.Chars.count([text]).encode(text).")
    ids = tokens.cpu().numpy() if isinstance(tokens, torch.Tensor) else np.asarray(tokens)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise InputError(
            f"tokens are {ids.dtype} of shape {ids.shape}; expected one row of integers (N,), the ids of a text. "
            "Real vectors make a Batch of their own: Batch(inputs, targets)."
        )
    return ids
