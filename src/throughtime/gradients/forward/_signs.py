"""Random signs that a carry can save and a test can replace."""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor


@final
class Signs:
    """±1 with probability ½ each, from a generator of its own: the same calls with the same seed draw the same, however time is cut."""

    def __init__(self, seed: int, kept: Mapping[str, Tensor]) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        if "generator" in kept:
            self._generator.set_state(kept["generator"].cpu())

    def draw(self, *shape: int, like: Tensor) -> Tensor:
        """Of ``shape``, of the type and on the device of ``like``."""
        return (2 * torch.randint(2, shape, generator=self._generator) - 1).to(like)

    def kept(self) -> dict[str, Tensor]:
        """For the carry."""
        return {"generator": self._generator.get_state()}


def balance(upper: Tensor, lower: Tensor) -> Tensor:
    """√(upper / lower), and 1 where either norm is 0: the scale that gives both factors of a product the same norm."""
    either = (upper == 0) | (lower == 0)
    return torch.where(either, 1.0, upper / torch.where(either, 1.0, lower)).sqrt()
