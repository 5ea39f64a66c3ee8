"""Which calls of a layer torch's own forward answers, because something other than the kernels must be able to read the call.

An exporter, a tracer, a recorder of operations or a tensor with operations of its own sees in a layer without options what it would see
in torch's: the same operations, for which it has its rules. So what they write can be read where this package is not installed.

T time · B batch · I input.
"""

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn.utils.rnn import PackedSequence

from .._torch_private import functorch_is_active
from ..kernels import get_kernels, is_watched
from ._torchs_loop import steps_are_few

# The tracer of torch 2.9 stops at a method of torch's own layers in an export with strict=True; an operator passes.
TRACER_READS_LAYERS = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13)


def torchs_own_answers(layer: Any, input: Any, lengths: Any, reset: Any) -> bool:
    """Whether torch's own forward is to run. Only a layer without options has one that means the same."""
    if lengths is not None or reset is not None:
        return False
    if torch.compiler.is_compiling():
        readable = TRACER_READS_LAYERS or not torch.compiler.is_dynamo_compiling()
        return readable and torch.compiler.is_exporting() and not layer.beyond_torch() and _steps_are_fixed(layer, input)
    data = input.data if isinstance(input, PackedSequence) else input
    weight = layer.weight_ih_l0
    if not isinstance(data, Tensor) or data.device != weight.device or layer.beyond_torch():
        return False
    faster = get_kernels() == "fast" and not functorch_is_active() and _torch_is_faster(layer, input)
    return faster or (data.ndim in (2, 3) and not data.numel()) or is_watched(data) or is_watched(weight)


def _torch_is_faster(layer: Any, input: Any) -> bool:
    """Whether torch's loop over the steps, which has no rule for functorch's transforms, is faster than ours."""
    if layer.proj_size:  # no kernel multiplies by a projection
        _hear_torchs_word_on_projections()
        return layer.weight_ih_l0.dtype in (torch.float32, torch.float64)
    return isinstance(input, PackedSequence) and steps_are_few(layer, len(input.batch_sizes))


@cache
def _hear_torchs_word_on_projections() -> None:
    """torch warns once a process that oneDNN has no LSTM with projections. Nobody asked for oneDNN's here, so the warning ends here."""
    x, h, c, W, R = (torch.zeros(size, dtype=torch.float32) for size in ((1, 1, 1), (1, 1, 1), (1, 1, 2), (8, 1), (1, 2)))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.lstm(x, (h, c), [W, W, R], False, 1, 0.0, False, False, False)


@cache
def packed_lstm_keeps_precision() -> bool:
    """Whether torch's LSTM over packed sequences of one length, under autocast on the CPU, gives what the state before the first step is.

    Of torch 2.9 this is true, of 2.13 it is not. Over sequences of several lengths it is true of both.
    """
    x, h, W = (torch.zeros(size, dtype=torch.float32) for size in ((1, 1), (1, 1, 1), (4, 1)))
    sizes = torch.ones(1, dtype=torch.int64)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        return torch.lstm(x, sizes, (h, h), [W, W], False, 1, 0.0, False, False)[0].dtype == x.dtype


class Refusals:
    """What torch does to a layer from outside its forward, by its exact class or its source: refused at once, with the way out."""

    def __prepare_scriptable__(self) -> Any:
        raise NotImplementedError(
            f"torch.jit.script compiles the source of torch's own layers, and this is {_INSTEAD}torch.jit.script(model)"
        )

    @property
    def qconfig(self) -> Any:
        """Absent: torch's quantisation looks for it, and gives it to every module."""
        raise AttributeError("qconfig")

    @qconfig.setter
    def qconfig(self, value: Any) -> None:
        raise NotImplementedError(f"torch's quantisation passes over a layer that is not exactly torch's own, and this is {_INSTEAD}...")

    @property
    def ft_compute_sample_grad(self) -> Any:
        """Absent: Opacus gives it to every layer for which it has no rule; for a layer with two results it fails later, in backward."""
        raise AttributeError("ft_compute_sample_grad")

    @ft_compute_sample_grad.setter
    def ft_compute_sample_grad(self, value: Any) -> None:
        raise NotImplementedError(
            "Opacus knows the gradients of single samples of its own recurrent layers alone, and this is one of throughtime's. Expected "
            "model = opacus.validators.ModuleValidator.fix(model), which puts Opacus's LSTM and GRU in; DPRNN has to be put in by hand."
        )


_INSTEAD = "one of throughtime's. Expected torch's: use with throughtime.as_torch(model): "


def _steps_are_fixed(layer: Any, input: Any) -> bool:
    """Whether an export asks for one number of steps alone. torch refuses any other; as an operator of ours a layer has any T.

    ONNX has no name for that operator, so there torch's refusal is the answer.
    """
    if not isinstance(input, Tensor) or torch.onnx.is_in_onnx_export():
        return True
    steps = input.shape[1 if layer.batch_first and input.ndim == 3 else 0]
    return not isinstance(steps, torch.SymInt)


def leaf(layer: torch.nn.Module, input: fx.Proxy, hx: Any, options: dict[str, Any]) -> Any:
    """The call as one node of an ``fx`` graph, as a tracer writes torch's own layers. It knows these by their module's name alone."""
    tracer: Any = input.tracer
    given = {name: value for name, value in options.items() if value is not None}
    return tracer.create_proxy("call_module", tracer.path_of_module(layer), (input,) if hx is None else (input, hx), given)
