"""A model as an ONNX graph with ONNX's own recurrent operators. It needs the package ``onnx``.

    tokens (T, B) → Gather or OneHot ┐
                                     ├→ xs (T, B, I) → RNN, GRU or LSTM, L times → hs (T, B, H) → MatMul, Add → logits (T, B, V)
                     inputs (T, B, I)┘                 h_in, c_in → h_out, c_out (L, B, H)

ONNX's equations are those of ``cells``; names and gate orders differ. The gate order applies to W, R and both biases.

    Elman   RNN                                 f: Tanh, Relu, Sigmoid, or Affine(α = 1, β = 0)     (1)
    GRU     GRU with linear_before_reset = 1    here r, z, n        ONNX's z, r, h                  (2)
            GRU with linear_before_reset = 0    the same, of ``cells.zoo.ResetBeforeGRU``           (2')
    LSTM    LSTM                                here i, f, g, o     ONNX's i, o, f, c               (3)

T time · B batch · I input · H hidden · G gates · L layers · V outputs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper
from onnx.helper import make_attribute, make_graph, make_model, make_node, make_opsetid, make_tensor_value_info, set_model_props
from torch import Tensor

from .._check import InputError
from .._version import __version__
from ..cells import AbstractCell
from ..cells.zoo import ResetBeforeGRU
from ..kernels import TABLE, OnnxOperator, known
from ..nn import Bidirectional, Given, Learnable, Recurrence, Zeros
from ._base import AbstractModel
from ._head import Head
from ._inputs import AbstractInput, Embedding, OneHot, Vectors
from ._losses import Linear, SigmoidOutput, Softmax

OPSET: Final = 17  # no operator used here has changed since, and runtimes since 2022 support it
IR_VERSION: Final = 8  # of the same year; from 4 on an input may have a default
MOST_BYTES: Final = 2**31 - 1  # what one protobuf holds
STATES: Final = ("h", "c")


def to_onnx(model: AbstractModel, about: Mapping[str, str]) -> ModelProto:
    """The checked graph of ``model`` in evaluation mode.

    Args:
        model: a model of this package.
        about: facts to add to the graph's ``metadata_props``.

    Raises:
        InputError: weights that are not float32, or too large for a file.
        NotImplementedError: a cell, an activation, an input station or an output function that ONNX's operators cannot express.
    """
    _check_weights(model)
    graph = _Graph()
    first, xs = _enter(graph, model.input)
    if isinstance(model.recurrence, Bidirectional):
        raise NotImplementedError(
            "the model reads in both directions, and a file that goes on from call to call has one direction. Train one without "
            "`bidirectional` to export it, or label sequences with throughtime predict."
        )
    hs, states_out = _recur(graph, model.recurrence, first.name, xs)
    output = _leave(graph, model.head, hs)
    whole = make_graph(graph.nodes, "throughtime", [first, *graph.states_in], [output, *states_out], graph.initializers())
    proto = make_model(
        whole,
        opset_imports=[make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="throughtime",
        producer_version=__version__,
    )
    set_model_props(proto, {**_facts(model), **about})
    onnx.checker.check_model(proto, full_check=True)
    return proto


@final
@dataclass
class _Graph:
    """The parts of the graph so far."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, Tensor] = field(default_factory=dict)
    states_in: list[ValueInfoProto] = field(default_factory=list)

    def node(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Mapping[str, object] | None = None) -> str:
        """Add a node. Returns the name of its first output."""
        made = make_node(operator, inputs, outputs, name=outputs[0])
        made.attribute.extend(make_attribute(key, value) for key, value in (attributes or {}).items())
        self.nodes.append(made)
        return outputs[0]

    def constant(self, name: str, values: Tensor) -> str:
        """Add a constant. Returns its name. Two stations that share a tensor share the constant, under the first name."""
        shared = next((n for n, there in self.constants.items() if there is values), name)
        self.constants.setdefault(shared, values)
        return shared

    def initializers(self) -> list[TensorProto]:
        return [numpy_helper.from_array(values.detach().cpu().contiguous().numpy(), name) for name, values in self.constants.items()]


def _operator(cell: AbstractCell) -> OnnxOperator:
    if isinstance(cell, ResetBeforeGRU):
        return OnnxOperator("GRU", (1, 0, 2), {"linear_before_reset": 0})  # (2')
    row = known(cell)
    if row is None:
        names = ", ".join([*(str(one.cell) for one in TABLE), "zoo.ResetBeforeGRU()"])
        raise NotImplementedError(
            f"ONNX has no recurrent operator for the cell {cell}; {names} can be exported. "
            "Train one of these, or run this model from Python."
        )
    return row.onnx


def _enter(graph: _Graph, station: AbstractInput) -> tuple[ValueInfoProto, str]:
    """Station ②: the graph's first input, and the name of xs."""
    match station:
        case Embedding():
            graph.node("Gather", [graph.constant("input.weight", station.weight), "tokens"], ["xs"])
            return make_tensor_value_info("tokens", TensorProto.INT64, ["T", "B"]), "xs"
        case OneHot():
            depth = graph.constant("vocabulary_size", torch.tensor(station.size))
            graph.node("OneHot", ["tokens", depth, graph.constant("off_on", torch.tensor([0.0, 1.0], dtype=torch.float32))], ["xs"])
            return make_tensor_value_info("tokens", TensorProto.INT64, ["T", "B"]), "xs"
        case Vectors():
            return make_tensor_value_info("inputs", TensorProto.FLOAT, ["T", "B", station.size]), "inputs"
    raise NotImplementedError(
        f"the input station {type(station).__name__} cannot be exported; Embedding, OneHot and Vectors can. "
        "Build the model with Vectors, and give it what yours computes."
    )


def _recur(graph: _Graph, recurrence: Recurrence, first: str, below: str) -> tuple[str, list[ValueInfoProto]]:
    """Station ③: the name of hs, and the output states."""
    operator, L, H = _operator(recurrence.cell), recurrence.num_layers, recurrence.hidden_size
    states = STATES[: recurrence.cell.states]
    _states_in(graph, recurrence, states, first)
    for k in range(L):
        below = _layer(graph, operator, recurrence, k, below)
    for s in states:
        graph.node("Concat", [f"{s}_l{k}" for k in range(L)], [f"{s}_out"], {"axis": 0})
    return below, [make_tensor_value_info(f"{s}_out", TensorProto.FLOAT, [L, "B", H]) for s in states]


def _states_in(graph: _Graph, recurrence: Recurrence, states: Sequence[str], first: str) -> None:
    """Add the state inputs. Their default, if the model's rule has a fixed one, is its initial state (L, 1, H) for every stream."""
    L, H = recurrence.num_layers, recurrence.hidden_size
    graph.node("Shape", [first], ["B"], {"start": 1, "end": 2})
    shape = [graph.constant("L", torch.tensor([L])), "B", graph.constant("H", torch.tensor([H]))]
    graph.node("Concat", shape, ["L_B_H"], {"axis": 0})
    has_default = isinstance(recurrence.initial_rule, Zeros | Given | Learnable)
    for s, start in zip(states, recurrence.initial_state(1), strict=True):
        graph.states_in.append(make_tensor_value_info(f"{s}_in", TensorProto.FLOAT, [L, "B_or_1", H]))
        if has_default:
            graph.constant(f"{s}_in", start)
        graph.node("Expand", [f"{s}_in", "L_B_H"], [f"{s}_before"])
        graph.node("Split", [f"{s}_before"], [f"{s}_before_l{k}" for k in range(L)], {"axis": 0})


def _layer(graph: _Graph, operator: OnnxOperator, recurrence: Recurrence, k: int, below: str) -> str:
    """Add a layer. Returns the name of its h at every step. ONNX has an axis of directions: weights (1, G·H, ·), outputs (T, 1, B, H)."""
    W, R, b_ih, b_hh = recurrence.parameters_of(k).map(lambda p: p[list(operator.gates)].flatten(0, 1))
    weights = [graph.constant(f"W_l{k}", W.unsqueeze(0)), graph.constant(f"R_l{k}", R.unsqueeze(0))]
    bias = "" if b_ih is None or b_hh is None else graph.constant(f"b_l{k}", torch.cat((b_ih, b_hh)).unsqueeze(0))
    states = STATES[: recurrence.cell.states]
    whole_length = ""  # the place of sequence_lens
    inputs = [below, *weights, bias, whole_length, *(f"{s}_before_l{k}" for s in states)]
    attributes = {"hidden_size": recurrence.hidden_size, **operator.attributes}
    graph.node(operator.name, inputs, [f"hs_directions_l{k}", *(f"{s}_l{k}" for s in states)], attributes)
    return graph.node("Squeeze", [f"hs_directions_l{k}", graph.constant("direction_axis", torch.tensor([1]))], [f"hs_l{k}"])


def _leave(graph: _Graph, head: Head, hs: str) -> ValueInfoProto:
    """Station ④: o = V h + c, named ``logits`` if the output function makes probabilities of it, else ``outputs``."""
    match head.output:
        case Softmax() | SigmoidOutput():
            name = "logits"
        case Linear():
            name = "outputs"
        case other:
            raise NotImplementedError(
                f"the output function {other} cannot be exported; Softmax(), SigmoidOutput() and Linear() can. "
                "Build the head with Linear(), and apply yours to the graph's outputs."
            )
    columns = graph.node("Transpose", [graph.constant("head.weight", head.weight)], ["head.columns"])
    graph.node("MatMul", [hs, columns], [name if head.bias is None else "products"])
    if head.bias is not None:
        graph.node("Add", ["products", graph.constant("head.bias", head.bias)], [name])
    return make_tensor_value_info(name, TensorProto.FLOAT, ["T", "B", head.weight.shape[0]])


def _check_weights(model: AbstractModel) -> None:
    if odd := {p.dtype for p in model.parameters()} - {torch.float32}:
        raise InputError(
            f"the model's weights are {odd.pop()}; expected torch.float32, the type that onnxruntime's recurrent operators compute in. "
            "Export model.float()."
        )
    if (size := sum(4 * p.numel() for p in model.parameters())) > MOST_BYTES:
        raise InputError(
            f"the model's weights take {size / 2**30:.1f} GiB; expected less than 2 GiB, the most that one ONNX file holds. "
            "Export a smaller model."
        )


def _facts(model: AbstractModel) -> dict[str, str]:
    stack = model.recurrence
    return {
        "throughtime": __version__,
        "cell": repr(stack.cell),
        "layers": json.dumps(stack.num_layers),
        "hidden_size": json.dumps(stack.hidden_size),
        "input_size": json.dumps(stack.input_size),
        "outputs": json.dumps(model.head.weight.shape[0]),
        "output_function": repr(model.head.output),
        "initial_state": type(stack.initial_rule).__name__,
    }
