"""Every cell that others know too, and what each of them calls it. A cell that gets a kernel gets a row here, and nothing else.

G gates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from ..cells import GRU, LSTM, AbstractCell, Elman, Identity, Relu, Sigmoid, Tanh


@final
@dataclass(frozen=True)
class OnnxOperator:
    """How ONNX spells a cell: (1)–(3) of ``models/_onnx.py``."""

    name: str
    gates: tuple[int, ...]  # ONNX's k-th gate is our gates[k]-th
    attributes: Mapping[str, object] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Known:
    """One cell by its names elsewhere.

    Attributes:
        cell: ours.
        name: in the schema of ``torch.ops.throughtime``; in capitals, the extension's constant.
        native: torch's own function on other devices; None: there is none.
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
    """The row of a cell; None for a cell of one's own."""
    return next((row for row in TABLE if type(row.cell) is type(cell) and row.cell == cell), None)
