"""Which Jacobians a caller wants measured."""

from dataclasses import dataclass
from typing import final

from ... import _check


@final
@dataclass(frozen=True)
class Spectra:
    """Which Jacobians to measure.

    Args:
        samples: how many single steps, spread over time and streams. 0: none.
        spans: lengths of the products, in steps; those longer than the batch are left out. (): none.
        windows: how many products of each length.
        exponents: how many of the greatest Lyapunov exponents; at most n. 0: none.
        streams: how many streams they are the mean over, at most.
        burn_in: steps left out before (3). None: a quarter of the longest stream, 50 at most.

    Raises:
        InputError: a number below 0, a span below 1.
    """

    samples: int = 8
    spans: tuple[int, ...] = (4, 16, 64)
    windows: int = 4
    exponents: int = 8
    streams: int = 8
    burn_in: int | None = None

    def __post_init__(self) -> None:
        for name in ("samples", "windows", "exponents", "streams", "burn_in"):
            _check.at_least(f"Spectra.{name}", getattr(self, name) or 0, 0)
        for span in self.spans:
            _check.positive("a span of Spectra.spans", span, remedy="It is the number of Jacobians in a product.")
