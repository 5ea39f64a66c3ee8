"""The extension called directly: good calls whose every argument has the name that messages call it."""

import torch
from _problems import problem

from throughtime import _kernels
from throughtime.cells import GRU, LSTM, Elman, Tanh

LAYER = "cell xs state[0] state[1] W R b_ih b_hh lengths reset restart[0] restart[1] reverse keep threads".split()
FORWARD = [*LAYER, *"hs last[0] last[1] residuals".split()]
BACKWARD = [
    *LAYER,
    *"hs residuals dhs dlast[0] dlast[1] clip dxs dW dR db_ih db_hh dstate[0] dstate[1] drestart[0] drestart[1]".split(),
]
CELLS = {_kernels.ELMAN_TANH: Elman(Tanh()), _kernels.GRU: GRU(), _kernels.LSTM: LSTM()}


def arguments(direction: list[str], sizes=(4, 3, 5, 6), cell: int = _kernels.LSTM, dtype=torch.float32) -> dict:
    """A good call of one layer, forward or backward; T, B, I, H."""
    T, B, I, H = sizes
    p = problem(CELLS[cell], sizes).to(dtype)
    W, R, b_ih, b_hh = p.parameters
    zeros = lambda *shape: torch.zeros(*shape, dtype=dtype)
    known = dict(
        cell=cell, xs=p.xs, W=W, R=R, b_ih=b_ih, b_hh=b_hh, lengths=torch.full((B,), T), reset=torch.zeros(T, B, dtype=torch.bool),
        reverse=False, keep="fast", threads=1, hs=zeros(T, B, H), dhs=zeros(T, B, H), clip=None, dxs=zeros(T, B, I),
        residuals=zeros(_kernels.residuals_size(cell, (T, B, H), "fast", dtype == torch.float64)),
        dW=zeros(*W.shape), dR=zeros(*R.shape), db_ih=zeros(*b_ih.shape), db_hh=zeros(*b_hh.shape),
    )  # fmt: skip
    states = {f"{name}[{k}]": zeros(B, H) for name in ("state", "restart", "last", "dlast", "dstate", "drestart") for k in (0, 1)}
    return {name: (known | states)[name] for name in direction}


def call(direction: str, a: dict, arch: str | None = None) -> None:
    """``_kernels.forward`` or ``backward`` of arguments by name."""
    states = 2 if a["cell"] not in CELLS or a["cell"] == _kernels.LSTM else 1
    each = lambda name: tuple(a[f"{name}[{k}]"] for k in range(states))
    weights = (a["W"], a["R"], a["b_ih"], a["b_hh"])
    layer = (
        a["cell"], a["xs"], each("state"), weights, a["lengths"], a["reset"], each("restart"), a["reverse"], a["keep"], a["threads"], arch,
    )  # fmt: skip
    if direction == "forward":
        return _kernels.forward(layer, (a["hs"], each("last"), a["residuals"]))
    dweights = (a["dW"], a["dR"], a["db_ih"], a["db_hh"])
    results = (a["dxs"], each("dstate"), dweights, each("drestart"))
    return _kernels.backward(layer, (a["hs"], a["residuals"]), (a["dhs"], each("dlast"), a["clip"]), results)
