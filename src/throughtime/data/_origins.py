"""The steps of a series from which forecasts are made, and what a network reads at each of them.

The inputs of step t are (1) all columns at t, standardised, or their changes since t−1, 0 where missing; (2) for each of them a 1 where
that is missing; (3) the columns that are known beforehand, at t+1 … t+K. Its targets are the target columns at t+1 … t+K, or their changes
since the last known value, NaN where missing.

T time · B batch · C columns · V targets · K horizon · P pieces.
"""

from typing import final

import numpy as np

from ._sequences import AbstractSequences, Steps
from ._series import AbstractSeries, Group
from ._table_rows import Columns


@final
class Origins(AbstractSequences):
    """The steps of a table from which forecasts are made, as sequences to read: each piece begins ``context`` steps early.

    Args:
        table: the series.
        part: "train": every origin whose next step is in the part. "valid", "test": every origin whose K next steps are.
        horizon: K.
        context: steps that are read before a forecast counts.
        pieces: a long series is cut into so many, as far as its length allows.
        relative: the targets are changes since the last known value.
        most: only so many origins from the part's start.
    """

    def __init__(
        self, table: AbstractSeries, part: str, *, horizon: int, context: int, pieces: int, relative: bool = True, most: int | None = None
    ) -> None:
        self.table, self.part, self.horizon, self.context = table, part, horizon, context
        self.relative = relative
        self.values, self.last = (np.asarray(array) for array in (table.open_values(), table.open_last()))  # a map's own slices are slow
        spans = [(g, *self._origins(group)) for g, group in enumerate(table.groups)]
        spans = [(g, a, min(b, a + most) if most is not None else b) for g, a, b in spans if b > a]
        longest = max(1, -(-sum(b - a for _, a, b in spans) // pieces))
        self.pieces = [
            (g, max(table.groups[g].start, a - context + 1), a, min(a + longest, b))
            for g, first, b in spans
            for a in range(first, b, longest)
        ]
        self.lengths = np.array([stop - start for _, start, _, stop in self.pieces], np.int64)
        of = [table.groups[g] for g, *_ in self.pieces]
        rows = [(*piece[1:], group.start, group.bounds(part)[1], group.stop) for piece, group in zip(self.pieces, of, strict=True)]
        self._bounds = np.array(rows, np.int64).reshape(-1, 6).T  # (6, P)

    def _origins(self, group: Group) -> tuple[int, int]:
        start, stop = group.bounds(self.part)
        if self.part == "train":
            return start + self.context - 1, stop - 1
        return max(start - 1, group.start + self.context - 1), stop - self.horizon

    def __len__(self) -> int:
        """How many origins."""
        return sum(stop - first for _, _, first, stop in self.pieces)

    def read(self, i: int, start: int, stop: int) -> Steps:
        """Steps start..stop−1 of piece i."""
        steps = self.side_by_side(np.array([i]), start, stop - start)
        return Steps(steps.inputs[:, 0], steps.targets[:, 0], steps.counts[:, 0])

    def side_by_side(self, numbers: np.ndarray, start: int, T: int) -> Steps:
        K, V, columns, own = self.horizon, len(self.table.columns.target), self.table.columns, self._bounds[:, numbers]
        begin, first, stop, series_start, part_end, series_end = own  # (B,) each
        at = begin + start + np.arange(-1, T + K)[:, None]  # (T + K + 1, B): the row before the first, and K after the last
        rows = self.values.take(at, 0, mode="clip")  # (T + K + 1, B, C)
        here = at[1 : T + 1]
        if (at[-1] >= part_end).any():
            rows[at >= part_end, :V] = np.nan  # no target lies beyond the part
            rows[at >= series_end] = np.nan
        if (new := at[0] < series_start).any():
            rows[0, new] = rows[1, new]  # the first row of a series is no change
        targets = _ahead(rows[2:, :, :V], T, K)
        if self.relative:
            targets.reshape(*here.shape, K, V)[:] -= self.last.take(here, 0, mode="clip")[:, :, None]
        counts = (here >= first) & ~np.isnan(targets).all(-1)
        inputs = inputs_of(rows[1:], T, K, columns, relative=self.relative, before=rows[0])
        if (here[-1] >= stop).any():
            over = here >= stop
            inputs[over], targets[over], counts[over] = 0, 0, False
        return Steps(inputs, targets, counts)


def inputs_of(
    rows: np.ndarray, steps: int, horizon: int, columns: Columns, *, relative: bool, before: np.ndarray | None = None
) -> np.ndarray:
    """(1)–(3) of the first ``steps`` rows (·, C), or of those of B series side by side (·, B, C).

    Args:
        rows: those after the first ``steps`` are read for what is known beforehand.
        steps: how many.
        horizon: K.
        columns: which they are.
        relative: targets and features enter as changes since the row before.
        before: that of the first row (C,), or (B, C); None: it is the start of the series, and there is no change.
    """
    C, known, moving = rows.shape[-1], len(columns.known), len(columns.target) + len(columns.features)
    now = values = rows[:steps]
    if relative:
        first = now[:1] if before is None else before[None]
        values = now - np.concatenate([first, now[:-1]])
        values[..., moving:] = now[..., moving:]
    missing = np.isnan(values)
    inputs = np.empty((*now.shape[:-1], input_size(columns, horizon)), np.float32)
    inputs[..., :C], inputs[..., C : 2 * C] = np.where(missing, 0, values), missing
    if known:
        inputs[..., 2 * C :] = np.nan_to_num(_ahead(rows[1:, ..., -known:], steps, horizon))
    return inputs


def _ahead(rows: np.ndarray, steps: int, horizon: int) -> np.ndarray:
    """(steps, ·, K·C): rows t … t+K−1 (·, C) for each step t, NaN where there are none."""
    ahead = np.full((steps, *rows.shape[1:-1], horizon, rows.shape[-1]), np.nan, np.float32)
    for k in range(horizon):
        found = rows[k : k + steps]
        ahead[: len(found), ..., k, :] = found
    return ahead.reshape(*ahead.shape[:-2], -1)


def input_size(columns: Columns, horizon: int) -> int:
    """The numbers of (1)–(3)."""
    return 2 * len(columns.read) + horizon * len(columns.known)
