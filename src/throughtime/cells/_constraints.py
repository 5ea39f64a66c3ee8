"""What restricts the entries of R: functions for ``torch.nn.utils.parametrize``, which a cell may ask for (``AbstractCell.constraint``).

H hidden · G gates.
"""

from typing import final

from torch import Tensor, nn

from .._check import InputError


@final
class Dale(nn.Module):
    """Every unit excites all others or inhibits all others:

        R = |V| diag(s)     (1)     V (G·H, H) free

    Args:
        signs: (H,) s: positive where a unit excites, negative where it inhibits. Their sizes scale the unit's influence.

    Raises:
        InputError: signs of another shape, zeros among them, or numbers that are not finite.

    References: Song, Yang & Wang, *Training excitatory-inhibitory recurrent neural networks for cognitive tasks*, 2016, which has [V]₊.

    >>> import torch
    >>> from torch.nn.utils import parametrize
    >>> from throughtime import cells, nn
    >>> stack = nn.Recurrence(cells.Elman(), 2, 3)
    >>> stack = parametrize.register_parametrization(stack, "weight_hh_l0", Dale(torch.tensor([1.0, 1.0, -2.0])))
    >>> stack.weight_hh_l0.sign()[0].tolist()
    [1.0, 1.0, -1.0]
    """

    signs: Tensor

    def __init__(self, signs: Tensor) -> None:
        super().__init__()
        if signs.ndim != 1 or not bool((signs.isfinite() & (signs != 0)).all()):
            raise InputError(f"signs has shape {tuple(signs.shape)}; expected (H,) numbers other than 0, positive for units that excite.")
        self.register_buffer("signs", signs.clone())

    def forward(self, V: Tensor) -> Tensor:
        return V.abs() * self.signs  # (1)

    def right_inverse(self, R: Tensor) -> Tensor:
        """A V for an R of any signs, so that initialisers keep their scale."""
        return R


@final
class Masked(nn.Module):
    """Entries of R that are fixed at zero:

        R = M ⊙ V       (1)     V (G·H, H) free

    Args:
        mask: (H, H) for every gate alike, or (G·H, H): 1 where a weight exists, 0 where it does not.

    Raises:
        InputError: a mask that has other numbers than 0 and 1, or other axes.

    >>> import torch
    >>> from torch.nn.utils import parametrize
    >>> from throughtime import cells, nn
    >>> stack = nn.Recurrence(cells.GRU(), 2, 3)
    >>> stack = parametrize.register_parametrization(stack, "weight_hh_l0", Masked(torch.eye(3)))
    >>> int((stack.weight_hh_l0 != 0).sum())
    9
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        if mask.ndim != 2 or not bool(((mask == 0) | (mask == 1)).all()):
            raise InputError(f"mask has shape {tuple(mask.shape)}; expected (H, H) or (G·H, H) of 0 and 1.")
        self.register_buffer("mask", mask.clone())

    def forward(self, V: Tensor) -> Tensor:
        return (V.unflatten(0, (-1, len(self.mask))) * self.mask).flatten(0, 1)  # (1)

    def right_inverse(self, R: Tensor) -> Tensor:
        """R itself."""
        return R
