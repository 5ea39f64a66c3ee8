"""Problems for the kernels: random, non-square, of awkward sizes, and their float64 truth by the plain loop."""

from dataclasses import dataclass, replace

import pytest
import torch
from _rounding import assert_close as assert_close
from torch import Tensor

pytest.importorskip("throughtime._kernels", reason="the extension is not built here; the plain loop serves")

from throughtime.cells import AbstractCell
from throughtime.kernels import _fast, _plain
from throughtime.kernels._types import Gradients, Parameters, Run, Traversal

WALKS = [
    {},
    {"arrives": "last", "bias": False},
    {"lengths": True, "reverse": True, "clip": 0.3},
    {"reset": True, "lengths": True, "clip": 0.5},
    {"reset": True, "restart": False, "reverse": True},
]
"""Options of ``problem`` that meet every way through time."""


@dataclass(frozen=True)
class Problem:
    """Everything that one forward and backward pass is given, in float64."""

    cell: AbstractCell
    xs: Tensor  # (T, B, I)
    state: tuple[Tensor, ...]
    parameters: Parameters
    traversal: Traversal
    dhs: Tensor | None
    dlast: tuple[Tensor, ...] | None
    clip: float | None = None

    def to(self, dtype: torch.dtype) -> "Problem":
        def one(x: Tensor | None) -> Tensor | None:
            return x.to(dtype) if x is not None and x.is_floating_point() else x

        def several(xs: tuple[Tensor, ...] | None) -> tuple[Tensor, ...] | None:
            return None if xs is None else tuple(map(one, xs))  # type: ignore[arg-type]

        traversal = replace(self.traversal, restart=several(self.traversal.restart))
        return replace(
            self,
            xs=one(self.xs),
            state=several(self.state),
            parameters=self.parameters.map(one),
            traversal=traversal,
            dhs=one(self.dhs),
            dlast=several(self.dlast),
        )


def problem(
    cell: AbstractCell,
    sizes: tuple[int, int, int, int],
    *,
    seed: int = 0,
    bias: bool = True,
    lengths: bool = False,
    ordered: bool = False,
    reset: bool = False,
    restart: bool = True,
    reverse: bool = False,
    clip: float | None = None,
    arrives: str = "both",
) -> Problem:
    """A random problem of ``sizes`` (T, B, I, H); the weights are small enough that no gate saturates."""
    T, B, I, H = sizes
    G, rows, S = cell.gates, cell.rh_gates, cell.states
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(shape, generator=generator, dtype=torch.float64)

    ends = torch.randint(0, T + 1, (B,), generator=generator)
    ends = ends.sort(descending=True).values if ordered else ends
    return Problem(
        cell,
        normal(T, B, I),
        tuple(normal(B, H) for _ in range(S)),
        Parameters(
            normal(G, H, I, scale=0.5 * I**-0.5),
            normal(rows, H, H, scale=0.7 * H**-0.5),
            normal(G, H, scale=0.3) if bias else None,
            normal(rows, H, scale=0.3) if bias else None,
        ),
        Traversal(
            ends if lengths else None,
            torch.rand(T, B, generator=generator) < 0.3 if reset else None,
            tuple(normal(B, H) for _ in range(S)) if reset and restart else None,
            reverse,
        ),
        normal(T, B, H) if arrives in ("outputs", "both") else None,
        tuple(normal(B, H) for _ in range(S)) if arrives in ("last", "both") else None,
        clip,
    )


def by_plain(p: Problem) -> tuple[Run, Gradients]:
    run = _plain.forward(p.cell, p.xs, p.state, p.parameters, p.traversal)
    return run, _plain.backward(p.cell, p.xs, p.parameters, run, p.dhs, p.dlast, p.traversal, clip=p.clip)


def by_kernels(p: Problem, *, keep: str = "fast", threads: int = 1, arch: str | None = None) -> tuple[Run, Gradients]:
    run = _fast.forward(p.cell, p.xs, p.state, p.parameters, p.traversal, keep=keep, threads=threads, arch=arch)
    gradients = _fast.backward(
        p.cell, p.xs, p.parameters, run, p.dhs, p.dlast, p.traversal, clip=p.clip, keep=keep, threads=threads, arch=arch
    )
    return run, gradients


def arrays(run: Run, d: Gradients) -> dict[str, Tensor]:
    """Every result by name."""
    named: dict[str, Tensor | None] = {"hs": run.hs, "dxs": d.dxs}
    named |= {f"last[{k}]": s for k, s in enumerate(run.last)}
    named |= {f"dstate[{k}]": s for k, s in enumerate(d.dstate)}
    named |= {f"d{name}": g for name, g in d.parameters._asdict().items()}
    named |= {f"drestart[{k}]": s for k, s in enumerate(d.drestart or ())}
    return {name: a for name, a in named.items() if a is not None}


def rounding(sizes: tuple[int, int, int, int], dtype: torch.dtype = torch.float64) -> float:
    """How far two orders of the same arithmetic may lie apart, relative to an array's largest entry.

    A sum of n terms of random sign is off by about √n·eps of its size, whoever computes it (Higham & Mary, SIAM J. Sci. Comput.
    41(5), 2019). An entry of dW has been through the sum over I + H of a step, T steps one after the other, and the sum over T·B
    rows; the cell's own functions are off by at most 4 ulp each, a handful to a step: 8. The weights of these problems contract,
    so that no step enlarges what comes from the one before. Twice four for the tail.
    """
    T, B, I, H = sizes
    return 8 * torch.finfo(dtype).eps * (T + (T * B) ** 0.5 + (I + H) ** 0.5 + 8)
