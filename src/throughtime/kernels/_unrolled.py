"""The recurrence as a graph of torch's own operations: slow, and differentiable any number of times in either mode.

T time · B batch · I input · H hidden · P output: H, or the projection's size · G gates · S states.

It computes the plain loop's equations (1)–(3) without writing in place, so that forward mode, vmap, torch.compile and
gradients of gradients work. It also has the options that the kernels lack (``Variation``):

    rh_t = R (m ⊙ h_{t−1}) + b_hh       (1)     m: one dropout mask a sequence (Gal & Ghahramani 2016)
    wx_t = n_x(W x_t) + b_ih,  rh_t = n_h(R h_{t−1}) + b_hh     (2)     n: layer normalisation (Ba, Kiros & Hinton 2016, eq. 20)
    h_t = W_hr h̃_t                      (3)     projection (Sak, Senior & Beaufays 2014)
    s_t = k_t ⊙ s_{t−1} + (1 − k_t) ⊙ s̃_t       (4)     zoneout, k_t ∈ {0, 1}, or its mean (Krueger et al. 2017)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from .._shapes import State
from ..cells import AbstractCell
from ._types import FORWARD, LayerParameters, Parameters, RecurrentParameters, Traversal, from_flat
from .generated import between, with_learned

Normalise = Callable[[Tensor], Tensor]


@final
@dataclass(frozen=True, eq=False)
class Variation:
    """Options that change the bare recurrence; None switches an option off.

    >>> from throughtime.cells import LSTM
    >>> weights = Parameters(torch.randn(4, 5, 2), torch.randn(4, 5, 3), None, None)
    >>> narrow = Variation(projection=torch.randn(3, 5))
    >>> hs, (h, c) = unrolled(LSTM(), torch.randn(7, 6, 2), (torch.zeros(6, 3), torch.zeros(6, 5)), weights, variation=narrow)
    >>> hs.shape, c.shape
    (torch.Size([7, 6, 3]), torch.Size([6, 5]))
    """

    recurrent_mask: Tensor | None = None  # (B, P) m of (1)
    normalise_wx: Normalise | None = None  # of (…, G·H) values
    normalise_rh: Normalise | None = None
    projection: Tensor | None = None  # (P, H) W_hr
    zoneout: tuple[Tensor, ...] | None = None  # k of (4), S tensors that broadcast to (T, B, H or P)


BARE = Variation()


def unrolled(
    cell: AbstractCell, xs: Tensor, state: State, parameters: LayerParameters, traversal: Traversal = FORWARD, variation: Variation = BARE
) -> tuple[Tensor, State]:
    """``hs`` (T, B, P) and each sequence's last state. ``xs`` is (T, B, I), or wx (T, B, G, H) with ``RecurrentParameters``."""
    R, T = parameters.R, xs.shape[0]
    active_steps = None
    if traversal.lengths is not None:  # padding may hold anything, NaN too, and must not reach a gradient
        active_steps = torch.arange(T, device=xs.device).unsqueeze(1) < traversal.lengths.to(xs.device)  # (T, B)
        xs = torch.where(active_steps.view(*active_steps.shape, *[1] * (xs.ndim - 2)), xs, 0)
    wxs = _input_half(cell, xs, parameters, variation).unbind(0)  # the gradient of wxs[t] would be as long as all of them
    halves = _recurrent_halves(cell, R, parameters.b_hh, variation)
    hs: list[Tensor] = [xs] * T
    for t in reversed(range(T)) if traversal.reverse else range(T):
        active = None if active_steps is None else active_steps[t].unsqueeze(1)  # (B, 1)
        before = state if traversal.reset is None else _restarted(state, traversal, t)
        after = cell.step(wxs[t], halves(wxs[t], before), before)
        after = after if variation.projection is None else (after[0] @ variation.projection.T, *after[1:])  # (3)
        if variation.zoneout is not None:
            kept = (k if len(k) == 1 else k[t : t + 1] for k in variation.zoneout)
            after = tuple(k[0] * old + (1 - k[0]) * new for k, old, new in zip(kept, before, after, strict=True))  # (4)
        if active is None:
            state, hs[t] = after, after[0]
        else:
            state = tuple(torch.where(active, new, old) for new, old in zip(after, state, strict=True))
            hs[t] = torch.where(active, after[0], 0)
    return torch.stack(hs), state


def pulled_back(
    cell: AbstractCell, leaves: Mapping[str, Tensor], traversal: Traversal, dhs: Tensor | None, dlast: tuple[Tensor | None, ...]
) -> dict[str, Tensor]:
    """The gradient of every leaf, given those of ``hs`` and the last state. It is differentiable in ``leaves``, ``dhs`` and ``dlast``.

    ``named_leaves`` gives the leaves' names.
    """
    hs_and_last, pull = torch.func.vjp(lambda given: _run(cell, given, traversal), dict(leaves))  # pyright: ignore[reportAssignmentType]
    cotangents = [torch.zeros_like(y) if d is None else d for y, d in zip(hs_and_last, (dhs, *dlast), strict=True)]
    return pull(cotangents)[0]


def named_leaves(
    xs: Tensor, state: State, parameters: LayerParameters, restart: State | None, vectors: Sequence[Tensor] = ()
) -> dict[str, Tensor]:
    """The tensors that have gradients, by name. ``vectors``: the cell's own learned ones."""
    weights = {name: p for name, p in parameters._asdict().items() if p is not None}
    return {"xs": xs} | _numbered("state", state) | weights | _numbered("restart", restart or ()) | _numbered("vector", tuple(vectors))


def _run(cell: AbstractCell, leaves: Mapping[str, Tensor], traversal: Traversal) -> list[Tensor]:
    """[hs, *last], from ``named_leaves``."""
    parameters = from_flat(*(leaves.get(name) for name in Parameters._fields))  # type: ignore[arg-type]
    state, restart, vectors = (
        tuple(s for name, s in leaves.items() if name.startswith(kind)) for kind in ("state.", "restart.", "vector.")
    )
    with with_learned(cell, vectors) as own:
        hs, last = unrolled(own, leaves["xs"], state, parameters, replace(traversal, restart=restart or None))
    return [hs, *last]


def _numbered(name: str, state: State) -> dict[str, Tensor]:
    return {f"{name}.{k}": s for k, s in enumerate(state)}


def _input_half(cell: AbstractCell, xs: Tensor, parameters: LayerParameters, variation: Variation) -> Tensor:
    """wx (T, B, G, H) of all steps at once."""
    if isinstance(parameters, RecurrentParameters):
        return xs
    W, _, b_ih, _ = parameters
    return _affine(xs, W.flatten(0, 1), b_ih, variation.normalise_wx).unflatten(-1, (cell.gates, W.shape[1]))


def _recurrent_halves(cell: AbstractCell, R: Tensor, b_hh: Tensor | None, variation: Variation) -> Callable[[Tensor, State], Tensor]:
    """The function from wx and the state before to rh (B, rows of R, H). The weights are prepared once for all steps."""
    gates, early = R.shape[:2], cell.rh_gates - cell.late_gates
    if cell.late_gates == 0:
        rows = R.flatten(0, 1)
        return lambda wx, state: _recurrent_half(state[0], rows, b_hh, variation).unflatten(-1, gates)
    blocks, biases = [R[:early].flatten(0, 1), R[early:].flatten(0, 1)], [None, None] if b_hh is None else [b_hh[:early], b_hh[early:]]

    def both(wx: Tensor, state: State) -> Tensor:
        rh = _recurrent_half(state[0], blocks[0], biases[0], variation).unflatten(-1, (early, -1) if early else (0, wx.shape[-1]))
        late = _affine(between(cell, wx, rh, state), blocks[1], biases[1], None)
        return torch.cat((rh, late.unflatten(-1, (cell.late_gates, -1))), 1)

    return both


def _recurrent_half(h: Tensor, rows: Tensor, b_hh: Tensor | None, variation: Variation) -> Tensor:
    """rh (B, G·H), from R as (G·H, P)."""
    h = h if variation.recurrent_mask is None else variation.recurrent_mask * h  # (1)
    return _affine(h, rows, b_hh, variation.normalise_rh)


def _affine(x: Tensor, rows: Tensor, bias: Tensor | None, normalise: Normalise | None) -> Tensor:
    """x (…, K) by (G·H, K), normalised, plus (G, H) as (G·H,)."""
    bias = None if bias is None else bias.flatten()
    if normalise is None:
        return functional.linear(x, rows, bias)
    product = normalise(x @ rows.T)  # (2)
    return product if bias is None else product + bias


def _restarted(state: State, traversal: Traversal, t: int) -> State:
    """The state before step t, replaced where ``reset`` is True. For a sequence that has ended the result is not used."""
    assert traversal.reset is not None, "the caller asks only where there is a reset mask"
    cut = traversal.reset[t].to(state[0].device).unsqueeze(1)
    restart = traversal.restart or tuple(torch.zeros_like(s) for s in state)
    return tuple(torch.where(cut, new, old) for new, old in zip(restart, state, strict=True))
