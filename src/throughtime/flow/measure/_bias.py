"""The lags added up: each part's norm, and what a window of every length would have missed.

With g_K = Σ_{k<K} g^(k) and g = dL/dθ by ``FullBPTT``:

    bias(K)   = ‖g_K − g‖ / ‖g‖             (1)
    cosine(K) = ⟨g_K, g⟩ / (‖g_K‖ ‖g‖)      (2)
    error     = ‖Σ_k g^(k) − g‖ / ‖g‖       (3)     over all lags, however far: the check of the whole measurement

K lags.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import final

import torch
from torch import Tensor

from ._results import LEVELS, BiasCurve, LagGradients


@final
class LagSums:
    """Takes the parts of dL/dθ in the order of their lags.

    Args:
        gradient: parameter name → g.
        direct: parameter name → the part of it that does not pass through time, counted at lag 0.
        keep: the names whose parts are kept whole.
    """

    def __init__(self, gradient: Mapping[str, Tensor], direct: Mapping[str, Tensor], keep: Collection[str]) -> None:
        self.gradient, self.direct = gradient, direct
        self.sums = {name: torch.zeros_like(g) for name, g in gradient.items()}
        self.through_time: set[str] = set()
        self.norms: dict[str, list[float]] = {name: [] for name in gradient}
        self.kept: dict[str, list[Tensor]] = {name: [] for name in keep}
        self.beyond = dict.fromkeys(gradient, 0.0)
        self.products: dict[str, list[tuple[float, float, float]]] = {name: [] for name in gradient}  # ‖g_K − g‖, ‖g_K‖, ⟨g_K, g⟩

    def add(self, parts: Mapping[str, Tensor], factor: float) -> None:
        """The next lag's parts, true values being ``factor`` times these; a name that is missing has none."""
        first = not next(iter(self.norms.values()))
        self.through_time |= parts.keys()
        for name, g in self.gradient.items():
            norm, part = 0.0, parts.get(name)
            if part is not None:
                self.sums[name].add_(part, alpha=factor)
                norm = float(torch.linalg.vector_norm(part)) * factor
            if first and name in self.direct:
                self.sums[name] += self.direct[name]
                norm = float(torch.linalg.vector_norm(self.sums[name]))
            self.norms[name].append(norm)
            self.products[name].append(self._against(name, g, moved=first or part is not None))
            if name in self.kept:
                self.kept[name].append(self._whole(g, part, factor, first and name in self.direct, name))

    def end(self, parts: Mapping[str, Tensor], factor: float) -> None:
        """What lies beyond the last lag, all in one."""
        self.through_time |= parts.keys()
        for name, part in parts.items():
            self.sums[name].add_(part, alpha=factor)
            self.beyond[name] = float(torch.linalg.vector_norm(part)) * factor

    def lag_gradients(self) -> LagGradients:
        norms = {name: torch.tensor(values, dtype=torch.float64) for name, values in self.norms.items()}
        sizes = {name: float(torch.linalg.vector_norm(g)) for name, g in self.gradient.items()}
        error = _root(float(torch.dist(self.sums[name], g)) for name, g in self.gradient.items())
        size = _root(sizes.values())
        total = torch.stack(list(norms.values())).square().sum(0).sqrt()
        tensors = {name: torch.stack(parts) for name, parts in self.kept.items()}
        relative = error / size if size else 0.0 if error == 0 else math.inf  # (3)
        return LagGradients(norms, total, tensors, sizes, size, self.beyond, relative)

    def bias_curve(self) -> BiasCurve | None:
        """None where the gradient of all that acts through time is 0: nothing can be missed."""
        names = tuple(name for name in self.gradient if name in self.through_time)
        if not any(self.gradient[name].any() for name in names):
            return None
        bias, cosine, _ = self._curve(names)
        whole = self._curve(tuple(self.gradient))
        windows = torch.arange(1, len(bias) + 1, dtype=torch.float64)
        return BiasCurve(windows, bias, cosine, *whole, names, {level: least_window(bias, level) for level in LEVELS})

    def _against(self, name: str, g: Tensor, *, moved: bool) -> tuple[float, float, float]:
        """‖g_K − g‖, ‖g_K‖, ⟨g_K, g⟩ of one parameter; as before where this lag brought nothing."""
        if not moved:
            return self.products[name][-1]
        so_far = self.sums[name]
        return float(torch.dist(so_far, g)), float(torch.linalg.vector_norm(so_far)), float(torch.dot(so_far.flatten(), g.flatten()))

    def _curve(self, names: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """(1), (2) and ‖g_K‖ over some parameters together."""
        missing, so_far, along = torch.tensor([self.products[name] for name in names], dtype=torch.float64).unbind(2)  # (names, K) each
        g = _root(float(torch.linalg.vector_norm(self.gradient[name])) for name in names)
        bias = missing.square().sum(0).sqrt() / g  # (1)
        norm = so_far.square().sum(0).sqrt()
        return bias, along.sum(0) / (norm * g), norm  # (2)

    def _whole(self, g: Tensor, part: Tensor | None, factor: float, with_direct: bool, name: str) -> Tensor:
        whole = torch.zeros_like(g) if part is None else part * factor
        return whole + self.direct[name] if with_direct else whole


def least_window(bias: Tensor, level: float) -> int | None:
    """The least window from which on the bias stays at or below ``level``."""
    above = (~(bias <= level)).nonzero()
    least = 1 if not len(above) else int(above[-1]) + 2
    return least if least <= len(bias) else None


def _root(norms: Iterable[float]) -> float:
    """The norm of all parts together."""
    return math.sqrt(sum(n * n for n in norms))
