"""A measurement as precise as it must be: in the model's own type, and where that does not do, once more in float64.

In a chaotic network two ways of running the same steps part: what one rounds away grows as exp(λ t). The second measurement is
therefore also made on the plain loop alone, where every pass runs the same operations in the same order.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, final

import torch

from .._check import NonFinite
from ..kernels import get_kernels, set_kernels
from .measure import Measurement, Problem, measure


@final
@dataclass(frozen=True, eq=False)
class Closely:
    """A measurement, and how it was made.

    Attributes:
        precision: the type in which it was made.
        again: why it was made again; empty where the first was close enough.
        overflows: whether dL/dθ is beyond float64 too, so that the adjoint map alone could be measured, as far as it is finite.
    """

    found: Measurement
    precision: Literal["float32", "float64"]
    again: str = ""
    overflows: bool = False


def closely(problem: Problem) -> Closely:
    """Measure, and measure again where the lags do not add up or something has grown beyond its type.

    Raises:
        NonFinite: as ``measure`` does, in float64.
    """
    single = next(problem.model.recurrence.parameters()).dtype != torch.float64
    try:
        found = measure(problem)
    except NonFinite as error:
        why = str(error).partition(". ")[0].partition(":")[0]
    else:
        if found.lags.closes:
            return Closely(found, "float32" if single else "float64")
        why = _missed(found.lags.error)
    return _again(problem.in_double(), f"in {'float32' if single else 'float64, on the packed kernels'}, {why}")


def _missed(error: float) -> str:
    if not math.isfinite(error):
        return "the parts by lag could not be added up"
    return f"the parts by lag missed the whole gradient by {error:.2g} of its norm"


def _again(problem: Problem, why: str) -> Closely:
    with _plain_kernels():
        try:
            return Closely(measure(problem), "float64", why)
        except NonFinite:
            return Closely(measure(problem.without_parameters()), "float64", why, overflows=True)


@contextmanager
def _plain_kernels() -> Iterator[None]:
    chosen = get_kernels()
    set_kernels("plain")
    try:
        yield
    finally:
        set_kernels(chosen)
