"""Every message about a user's input: what was got, what was expected, what to do about it.

Called once, at the public border. Nothing inside checks again.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ._errors import InputError as InputError, NonFinite as NonFinite
from ._numbers import (
    above_zero as above_zero,
    at_least as at_least,
    fraction as fraction,
    memory as memory,
    one_of as one_of,
    positive as positive,
    seed as seed,
    split as split,
)
from ._shapes import State


def sequence_input(shape: Sequence[int], input_size: int) -> None:
    """A layer stack's input."""
    if len(shape) != 3 or shape[2] != input_size or 0 in shape[:2]:
        raise InputError(
            f"xs has shape {tuple(shape)}; expected (T, B, {input_size}) with T and B at least 1. "
            f"Time comes first: use xs.transpose(0, 1) if yours is (B, T, {input_size})."
        )


def state(given: State, wanted: Sequence[tuple[int, ...]]) -> None:
    """A recurrent state against the shapes that the stack and the batch ask for."""
    shapes = [tuple(s.shape) for s in given]
    if shapes != list(wanted):
        B = wanted[0][1]
        raise InputError(
            f"the carried state has shapes {shapes} but the batch has B = {B}: states are (L, B, H), here {list(wanted)}. "
            f"Pass model.initial_state({B}), or carry=None to start afresh."
        )


def indices(name: str, values: Tensor, size: int) -> None:
    """Vocabulary indices in [0, size)."""
    if values.numel() and (int(values.min()) < 0 or int(values.max()) >= size):
        raise InputError(
            f"{name} has indices from {int(values.min())} to {int(values.max())}; expected 0 to {size - 1}, the vocabulary's. "
            "Encode the text with the vocabulary that the model was built with."
        )


def per_step(name: str, values: Tensor | None, T: int, B: int) -> None:
    """A (T, B) companion of a batch: mask, weights."""
    if values is not None and tuple(values.shape) != (T, B):
        raise InputError(f"{name} has shape {tuple(values.shape)}; expected (T, B) = ({T}, {B}), one number a step and stream.")


def lengths(given: Tensor, T: int, B: int, *, look: bool) -> None:
    """Steps of each sequence of a batch, (B,), 0 to T; ``look``: at the values too."""
    if given.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8) or tuple(given.shape) != (B,):
        raise InputError(
            f"lengths are {given.dtype} of shape {tuple(given.shape)}; expected integers of shape (B,) = ({B},), one a sequence."
        )
    if look and B and (int(given.min()) < 0 or int(given.max()) > T):
        raise InputError(
            f"lengths go from {int(given.min())} to {int(given.max())}; expected 0 to T = {T}, the steps that the input has. "
            "Cut them to the input's length, or pad the input."
        )


def reset(given: Tensor, T: int, B: int) -> None:
    """Where a state restarts: (B,) before the first step, or (T, B)."""
    if given.dtype != torch.bool or tuple(given.shape) not in ((B,), (T, B)):
        raise InputError(
            f"reset is {given.dtype} of shape {tuple(given.shape)}; expected torch.bool of shape (B,) = ({B},), before the first step, or "
            f"(T, B) = ({T}, {B}). Use reset.bool(), and time first even where the layer is batch_first."
        )


def same_device(input: torch.device, weights: torch.device) -> None:
    """An input must be where the weights are."""
    if input != weights:
        raise RuntimeError(
            f"the input is on {input} and the layer's weights are on {weights}; expected one device. "
            f"Move the input with input.to('{weights}'), or the model with model.to('{input}')."
        )
