"""The cells that the extension, torch and ONNX know too, with their names there. A cell with a kernel has a row here and nowhere else.

G gates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from ..cells import GRU, LSTM, AbstractCell, Elman, Identity, Relu, Sigmoid, Tanh


@final
@dataclass(frozen=True)
class OnnxOperator:
    """ONNX's operator for a cell: (1)–(3) of ``models/onnx.py``.

    >>> from throughtime.kernels import known
    >>> known(GRU()).onnx.gates  # ONNX's order z, r, h in terms of r, z, n
    (1, 0, 2)
    """

    name: str
    gates: tuple[int, ...]  # ONNX's k-th gate is our gates[k]-th
    attributes: Mapping[str, object] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Known:
    """One cell and its names elsewhere.

    Attributes:
        cell: the cell.
        name: its name in the schema of ``torch.ops.throughtime``; in capitals, the extension's constant.
        native: the name of torch's own function on other devices; None if there is none.
        onnx: ONNX's operator.
    """

    cell: AbstractCell
    name: str
    native: str | None
    onnx: OnnxOperator


TABLE = (
    Known(GRU(), "gru", "gru", OnnxOperator("GRU", (1, 0, 2), {"linear_before_reset": 1})),
    Known(LSTM(), "lstm", "lstm", OnnxOperator("LSTM", (0, 3, 1, 2))),
    Known(Elman(Tanh()), "elman_tanh", "rnn_tanh", OnnxOperator("RNN", (0,), {"activations": ["Tanh"]})),
    Known(Elman(Relu()), "elman_relu", "rnn_relu", OnnxOperator("RNN", (0,), {"activations": ["Relu"]})),
    Known(Elman(Sigmoid()), "elman_sigmoid", None, OnnxOperator("RNN", (0,), {"activations": ["Sigmoid"]})),
    Known(
        Elman(Identity()),
        "elman_identity",
        None,
        OnnxOperator("RNN", (0,), {"activations": ["Affine"], "activation_alpha": [1.0], "activation_beta": [0.0]}),
    ),
)
BY_NAME = {known.name: known for known in TABLE}


def known(cell: AbstractCell) -> Known | None:
    """The row of a cell; None for a user's own cell."""
    if type(cell) not in _KINDS:
        return None
    return next((row for row in TABLE if type(row.cell) is type(cell) and row.cell == cell), None)


_KINDS = frozenset(type(row.cell) for row in TABLE)
