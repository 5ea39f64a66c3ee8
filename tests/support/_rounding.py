"""How far two computations of the same numbers may stand apart, and the comparison that every test makes with it.

A sum or product of n numbers, each operation rounded, is off by at most n · eps/2 of the largest number met on the way (Higham 2002,
*Accuracy and Stability of Numerical Algorithms*, §3.1 and §4.2), so two ways of computing it are n · eps apart. What is met on the way
may be larger than the result: the ratio is the condition of the problem. Hence

    |got − wanted| ≤ c · eps · operations · condition · max |wanted|                                                              (1)

with c = 4 for what is not counted: tanh, exp and division are right to 4 units in the last place rather than to half a one.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

C = 4.0


def path(T: int, terms: int, layers: int = 1) -> int:
    """Roundings on the way of a number through T steps and L layers and its adjoint back: at each a sum of ``terms``, and ten for the cell."""
    return 2 * (T + layers) * (terms + 10)


LONGEST = path(20, 17, layers=3)  # what the tests' problems reach unless a test says otherwise; 1.1e-12 in float64


def rounding(operations: int = LONGEST, condition: float = 1.0, dtype: torch.dtype = torch.float64) -> float:
    """The relative distance allowed, (1)."""
    return C * torch.finfo(dtype).eps * operations * condition


def relative(got: Tensor, wanted: Tensor) -> float:
    """max |got − wanted| over max |wanted|: 0 for equal zeros, infinite where something stands in the place of zeros, or no number."""
    got, wanted = got.detach(), wanted.detach()
    assert got.shape == wanted.shape, f"shape {tuple(got.shape)} where {tuple(wanted.shape)} is wanted"
    if wanted.numel() == 0:
        return 0.0
    error, scale = float((got - wanted).abs().max()), float(wanted.abs().max())
    return 0.0 if error == 0 else error / scale if scale > 0 else torch.inf


def assert_close(
    got: Sequence[Tensor] | Mapping[str, Tensor], wanted: Sequence[Tensor] | Mapping[str, Tensor], tolerance: float | None = None
) -> None:
    """Every pair agrees to ``tolerance`` of its own largest entry; (1) for the longest path in float64 unless given."""
    tolerance = rounding() if tolerance is None else tolerance
    got, wanted = _named(got), _named(wanted)
    assert got.keys() == wanted.keys(), f"{list(got)} is compared with {list(wanted)}"
    errors = {name: relative(got[name], wanted[name]) for name in wanted}
    assert all(error <= tolerance for error in errors.values()), f"more than {tolerance:.2g} apart: {errors}"


def _named(several: Sequence[Tensor] | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return several if isinstance(several, Mapping) else {str(i): x for i, x in enumerate(several)}
